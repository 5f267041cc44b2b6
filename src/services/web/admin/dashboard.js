// The dashboard: what `/events` and `/sessions.json` tell, drawn; closer looks are in inspect.js. Nothing here is needed to read the page: without it the
// table below is all there is, as of when it was asked for.
'use strict';

const HISTORY = 60; // samples of a line
const ROWS = 200; // sessions shown
const history = new Map(); // by listener and measure: the last samples
let last = null; // the last status, to take differences from
const record = document.querySelector('#record'); // there is one if a record is told of, which does not go on

const SVG = new Set(['svg', 'path', 'rect', 'text', 'title']);

const element = (name, attributes = {}, ...children) => {
  const made = SVG.has(name) ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const number = value => {
  const units = [[1e9, ' G'], [1e6, ' M'], [1e4, ' k']];
  for (const [size, unit] of units) if (value >= size) return (value / (size === 1e4 ? 1e3 : size)).toFixed(1) + unit;
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toString() : value.toFixed(1);
};

const bytes = value => number(value).replace(/ ?([GMk]?)$/, ' $1B');

const duration = seconds => {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min']];
  for (const [size, unit] of parts) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.floor(seconds)} s`;
};

const sum = object => Object.values(object ?? {}).reduce((total, one) => total + one, 0);
const keyOf = listener => `${listener.kind} ${listener.name} ${listener.address}`;

const sample = (key, value) => {
  const samples = history.get(key) ?? [];
  samples.push(value);
  if (samples.length > HISTORY) samples.shift();
  history.set(key, samples);
  return samples;
};

const spark = (samples, what, told = value => `${number(value)} a second`) => {
  const top = Math.max(...samples, 1e-9);
  const at = (value, place) => `${(place * 100 / (HISTORY - 1)).toFixed(1)},${(30 - value * 28 / top).toFixed(1)}`;
  const first = HISTORY - samples.length;
  const path = 'M' + samples.map((value, place) => at(value, first + place)).join('L');
  const label = `${what}: now ${told(samples.at(-1))}, at most ${told(top)} in the last minute`;
  return element('svg', { class: 'spark', viewBox: '0 0 100 32', preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    element('path', { d: path }));
};

const QUANTILES = [['p50', .5], ['p90', .9], ['p99', .99]];

// Every request of a listener, by how long it took: upper bounds in seconds, and numbers.
const times = listener => {
  const all = new Map();
  for (const { buckets } of Object.values(listener?.requests ?? {})) {
    for (const [bound, count] of buckets) all.set(bound, (all.get(bound) ?? 0) + count);
  }
  return all;
};

// What so large a part of the requests since the last look took at most, in seconds; of all, if there were none.
const quantiles = (now, before) => {
  const all = [...now].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)]).filter(([, count]) => count > 0);
  const some = (all.length ? all : [...now]).sort(([one], [other]) => one - other);
  const count = some.reduce((total, [, one]) => total + one, 0);
  return QUANTILES.map(([, part]) => {
    let sum = 0;
    return some.find(([, one]) => (sum += one) >= count * part)?.[0] ?? 0;
  });
};

const brief = seconds => seconds ? seconds < 1e-3 ? `${Math.round(seconds * 1e6)} µs` : seconds < 1 ? `${(seconds * 1e3).toFixed(1)} ms` : `${seconds.toFixed(2)} s` : '–';

const rateOf = (now, before, seconds, measure) => before ? Math.max(0, (measure(now) - measure(before)) / seconds) : 0;

const fact = (value, what) => element('div', { class: 'fact' }, element('b', {}, value), element('span', {}, what));

const drawFacts = (now, before, seconds) => {
  const rate = measure => number(rateOf(now, before, seconds, measure));
  const busy = rateOf(now, before, seconds, status => status.turn_seconds.sum) * 100;
  const cache = now.cache ?? {};
  document.querySelector('#facts').replaceChildren(
    fact(number(sum(Object.fromEntries(now.listeners.map((one, place) => [place, one.sessions ?? 0])))), 'sessions'),
    fact(rate(status => status.turns), 'turns a second'),
    fact(rate(status => status.pumps), 'pumps a second'),
    fact(busy.toFixed(1) + ' %', 'of the time within a turn'),
    ...record ? [] : [ // which has not what the operating system said
      fact((rateOf(now, before, seconds, status => status.cpu_seconds) * 100).toFixed(1) + ' %', 'of a processor'),
      fact(bytes(now.resident_memory_bytes), 'memory'),
    ],
    fact(bytes(now.page_bytes), 'in pages'),
    fact(number(now.pages), 'pages'),
    fact(number(now.timers), 'timers'),
    fact(number(now.sockets), 'descriptors of sockets'),
    fact(`${number(now.disk?.waiting ?? 0)} + ${number(now.disk?.under_way ?? 0)}`, 'jobs for the disk that wait, and under way'),
    fact(number(uploading()), 'uploads under way'),
    fact(number(cache.objects ?? 0), 'responses kept'),
    fact(number(now.runnable), 'runnable sessions'),
  );
};

const drawTurns = (now, before) => {
  const bounds = Object.keys(now.turn_seconds.up_to).sort((one, other) => one - other);
  const within = status => bounds.map((bound, place) =>
    status.turn_seconds.up_to[bound] - (place ? status.turn_seconds.up_to[bounds[place - 1]] : 0));
  const then = before ? within(before) : bounds.map(() => 0);
  const counts = within(now).map((count, place) => count - then[place]);
  const top = Math.max(...counts, 1), width = 600 / bounds.length;
  const bars = counts.flatMap((count, place) => {
    const high = count ? Math.max(2, Math.log1p(count) / Math.log1p(top) * 56) : 0;
    const bound = Number(bounds[place]);
    const name = bound < 1e-3 ? `${Math.round(bound * 1e6)} µs` : bound < 1 ? `${Number((bound * 1e3).toPrecision(2))} ms` : `${bound.toFixed(1)} s`;
    return [
      element('rect', { x: place * width + 4, y: 60 - high, width: width - 8, height: high },
        element('title', {}, `${count} turns of at most ${name}`)),
      element('text', { x: (place + .5) * width, y: 74 }, place % 2 ? '' : name),
    ];
  });
  document.querySelector('#turns').replaceChildren(
    element('svg', { class: 'turns', viewBox: '0 0 600 80', role: 'img', 'aria-label': 'how long turns took since the last look' }, ...bars));
};

const drawListeners = (now, before, seconds) => {
  const earlier = new Map((before?.listeners ?? []).map(one => [keyOf(one), one]));
  const rows = now.listeners.map(listener => {
    const key = keyOf(listener), was = earlier.get(key);
    const isDatagrams = 'datagrams_received' in listener;
    const served = one => isDatagrams ? one.datagrams_received : one.accepted;
    const failed = one => sum(one.timed_out) + sum(one.refused) + sum(one.datagrams_dropped) + (one.ended?.reset ?? 0) + (one.ended?.disk ?? 0);
    const rate = measure => rateOf(listener, was, seconds, measure);
    const units = isDatagrams ? 'datagrams' : 'connections';
    const lines = [[served, units], [one => one.bytes_sent, 'bytes sent']]
      .map(([measure, what]) => spark(sample(`${key} ${what}`, rate(measure)), `${listener.name}, ${what}`));
    const spent = times(listener), slow = quantiles(spent, times(was));
    const took = spent.size ? spark(sample(`${key} p99`, slow[2]), `${listener.name}, 99 of 100 requests took at most`, brief) : '';
    return element('tr', {},
      element('td', { class: 'name' }, listener.name, ' ', listener.up ? '' : element('b', { class: 'warn' }, 'down')),
      element('td', { class: 'optional' }, listener.kind),
      element('td', { class: 'optional' }, listener.address),
      element('td', { class: 'number' }, isDatagrams ? '–' : number(listener.sessions)),
      element('td', { class: 'number' }, number(rate(served))),
      element('td', { class: 'optional' }, lines[0]),
      element('td', { class: 'number' }, number(rate(one => one.bytes_received))),
      element('td', { class: 'number' }, number(rate(one => one.bytes_sent))),
      element('td', { class: 'optional' }, lines[1]),
      ...slow.map(seconds => element('td', { class: 'number' }, brief(seconds))),
      element('td', { class: 'optional' }, took),
      element('td', { class: 'number' }, number(failed(listener))));
  });
  document.querySelector('#listeners tbody').replaceChildren(...rows);
};

const CLASSES = ['all', '1xx', '2xx', '3xx', '4xx', '5xx'];

// How requests were answered: by class of status, and by what the cache did.
const drawAnswers = now => {
  const rows = now.listeners.filter(one => sum(counts(one)) > 0).map(listener => {
    const by = counts(listener), all = sum(by);
    let x = 0;
    const bars = CLASSES.filter(name => by[name]).map(name => {
      const width = by[name] / all * 1000, at = x;
      x += width;
      return element('rect', { x: at, y: 0, width: Math.max(1, width), height: 20, class: `class-${name}` }, element('title', {}, `${name}: ${by[name]}`));
    });
    const told = CLASSES.filter(name => by[name]).map(name => `${name === 'all' ? 'answered' : name} ${number(by[name])}`);
    const cache = Object.entries(listener.cache_requests ?? {}).filter(([, count]) => count).map(([name, count]) => `${name.replace('_', ' ')} ${number(count)}`);
    return element('tr', {}, element('td', { class: 'name' }, listener.name),
      element('td', {}, element('svg', { class: 'strip', viewBox: '0 0 1000 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': told.join(', ') }, ...bars), told.join(', ')),
      element('td', {}, cache.join(', ')));
  });
  document.querySelector('#answers tbody').replaceChildren(...rows);
};

const counts = listener => Object.fromEntries(Object.entries(listener.requests ?? {}).map(([name, spans]) => [name, spans.count]));

const drawHeartbeats = senders => {
  document.querySelector('#heartbeats').hidden = !senders.length;
  document.querySelector('#heartbeats tbody').replaceChildren(...senders.slice(0, ROWS).map(one => element('tr', {},
    element('td', { class: 'name' }, one.id ?? one.address), element('td', { class: one.state === 'dead' ? 'warn' : '' }, one.state),
    element('td', { class: 'number' }, `${number(one.silent_for)} s`), element('td', { class: 'number' }, number(one.received)),
    element('td', { class: 'number' }, number(one.lost)), element('td', { class: 'number optional' }, number(one.duplicates)),
    element('td', { class: 'optional' }, one.listener))));
};

const draw = now => {
  const before = last, seconds = before ? Math.max(.001, now.uptime - before.uptime) : 1;
  last = now;
  document.querySelector('#since').textContent = `${now.draining ? 'draining, ' : ''}up for ${duration(now.uptime)}`;
  drawFacts(now, before, seconds);
  drawTurns(now, before);
  drawListeners(now, before, seconds);
  drawAnswers(now);
  hasMonitors = now.listeners.some(one => one.kind === 'udp-heartbeat');
};

const COLUMNS = [
  ['id', 'number', true], ['listener', 'listener'], ['peer', 'peer'], ['state', 'state'], ['waits_for', 'waits for', false, true],
  ['deadline_ms', 'for at most', true, true], ['received_bytes', 'unread', true, true], ['queued_bytes', 'queued', true],
];
let hasMonitors = false;

// Files that come, or are being stored.
const uploading = () => sessions.filter(row => row.kind === 'upload' && ['Beginning', 'Small', 'Body', 'Storing'].includes(row.state)).length;

let sessions = [], order = { column: 'id', descending: true };

const drawSessions = () => {
  const wanted = document.querySelector('#filter').value.toLowerCase();
  const fits = row => !wanted || COLUMNS.some(([key]) => String(row[key]).toLowerCase().includes(wanted));
  const { column, descending } = order;
  const compare = (one, other) => one[column] < other[column] ? -1 : one[column] > other[column] ? 1 : 0;
  const found = sessions.filter(fits).sort((one, other) => descending ? compare(other, one) : compare(one, other));
  const shownOf = (row, key) => key === 'deadline_ms' ? `${number(row[key] / 1000)} s`
    : key === 'id' ? element('button', { type: 'button', class: 'link', 'aria-label': `timeline of session ${row.id}` }, String(row.id)) : String(row[key]);
  const rows = found.slice(0, ROWS).map(row => element('tr', { 'data-id': row.id }, ...COLUMNS.map(([key, , isNumber, isOptional]) =>
    element('td', { class: `${isNumber ? 'number' : ''} ${isOptional ? 'optional' : ''}` }, shownOf(row, key)))));
  const focused = document.activeElement?.closest('#sessions tbody tr')?.dataset.id;
  document.querySelector('#sessions tbody').replaceChildren(...rows);
  if (focused) document.querySelector(`#sessions tr[data-id="${focused}"] button`)?.focus();
  const shown = found.length > ROWS ? `the first ${ROWS} of ${found.length}` : `${found.length} of ${sessions.length}`;
  document.querySelector('#shown').textContent = shown;
  for (const head of document.querySelectorAll('#sessions th')) {
    head.setAttribute('aria-sort', head.dataset.key === column ? descending ? 'descending' : 'ascending' : 'none');
  }
};

const readSessions = async () => {
  try {
    const answer = await fetch('sessions.json');
    if (answer.ok) sessions = await answer.json();
    drawSessions();
    if (hasMonitors) drawHeartbeats((await (await fetch('heartbeats')).json()).senders);
  } catch { /* the next one may be answered */ }
  setTimeout(readSessions, document.hidden ? 10000 : 2000);
};

const trace = async button => {
  const output = document.querySelector('#trace');
  button.disabled = true;
  output.hidden = false;
  output.textContent = 'looking for a second …';
  try {
    const answer = await fetch('trace?seconds=1&format=text');
    output.textContent = (await answer.text()).split('\n').slice(0, 2000).join('\n') || 'nothing happened';
  } catch (error) {
    output.textContent = `no answer: ${error.message}`;
  }
  button.disabled = false;
  output.focus();
};

const build = () => {
  const heads = COLUMNS.map(([key, name, isNumber, isOptional]) => {
    const button = element('button', { type: 'button' }, name);
    button.addEventListener('click', () => {
      order = { column: key, descending: order.column === key ? !order.descending : !!isNumber };
      drawSessions();
    });
    return element('th', { scope: 'col', class: `${isNumber ? 'number' : ''} ${isOptional ? 'optional' : ''}`, 'data-key': key }, button);
  });
  const plain = (name, classes = '') => element('th', { scope: 'col', class: classes }, name);
  const look = element('button', { type: 'button' }, 'What does the loop do? (1 s)');
  look.addEventListener('click', () => trace(look));
  const filter = element('input', { id: 'filter', type: 'search', placeholder: 'listener, peer, state …' });
  filter.addEventListener('input', drawSessions);
  document.querySelector('#live').replaceChildren(
    element('div', { id: 'facts', class: 'facts' }),
    element('h2', {}, 'How long turns took'), element('div', { id: 'turns', class: 'wide' }),
    element('section', { id: 'inspector', tabindex: '0', 'aria-label': 'turn by turn: space watches or pauses, arrows step' }),
    element('h2', {}, 'Listeners'),
    element('div', { class: 'wide' }, element('table', { id: 'listeners' },
      element('thead', {}, element('tr', {}, plain('name'), plain('kind', 'optional'), plain('address', 'optional'), plain('sessions', 'number'),
        plain('new /s', 'number'), plain('', 'optional'), plain('B/s in', 'number'), plain('B/s out', 'number'), plain('', 'optional'), ...QUANTILES.map(([name]) => plain(name, 'number')), plain('', 'optional'), plain('failed', 'number'))),
      element('tbody'))),
    element('h2', {}, 'How requests were answered'),
    element('div', { class: 'wide' }, element('table', { id: 'answers' },
      element('thead', {}, element('tr', {}, plain('listener'), plain('by status'), plain('by the cache'))), element('tbody'))),
    element('section', { id: 'heartbeats', hidden: '' }, element('h2', {}, 'Heartbeats'), element('div', { class: 'wide' }, element('table', {},
      element('thead', {}, element('tr', {}, plain('sender'), plain('state'), plain('silent for', 'number'), plain('received', 'number'), plain('lost', 'number'),
        plain('twice', 'number optional'), plain('listener', 'optional'))), element('tbody')))),
    element('h2', {}, 'Sessions'),
    element('div', { class: 'controls' }, element('label', {}, 'find ', filter), element('span', { id: 'shown', class: 'faint', 'aria-live': 'polite' }), look),
    element('pre', { id: 'trace', tabindex: '-1', hidden: '' }),
    element('section', { id: 'timeline', hidden: '' }),
    element('div', { class: 'wide' }, element('table', { id: 'sessions' }, element('thead', {}, element('tr', {}, ...heads)), element('tbody'))));
  document.querySelector('#plain').open = false;
};

build();
readSessions();
const events = new EventSource('events');
events.addEventListener('status', event => draw(JSON.parse(event.data)));
events.addEventListener('open', () => { document.querySelector('#connection').textContent = record ? '' : 'live'; });
events.addEventListener('error', () => { document.querySelector('#connection').textContent = 'not connected; trying again'; });
