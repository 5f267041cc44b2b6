// Two closer looks, each an event stream that is open only while somebody looks: what one session does, and the last turns of
// the loop. The words are the server's (`text` of a record); what is drawn is when, and how long.
'use strict';

const PARTS = ['note', 'jobs', 'accept', 'datagrams', 'timers', 'run', 'end', 'carry']; // in the order of the loop
const STEPS = 500; // steps of a timeline that are shown
const TURNS = 32; // turns that are asked for

const span = nanoseconds => nanoseconds < 1e4 ? `${(nanoseconds / 1e3).toFixed(1)} µs` : nanoseconds < 1e6 ? `${Math.round(nanoseconds / 1e3)} µs`
  : nanoseconds < 1e9 ? `${(nanoseconds / 1e6).toFixed(1)} ms` : `${(nanoseconds / 1e9).toFixed(2)} s`;

// A session's timeline.

const timeline = { source: null, id: null, records: [], row: null };

const closeTimeline = () => {
  timeline.source?.close();
  Object.assign(timeline, { source: null, id: null, records: [] });
  document.querySelector('#timeline').hidden = true;
};

// The states that it was in, as a strip: from the beginning of the records that are shown until now.
const drawStates = records => {
  const steps = records.filter(record => record.what === 'advanced');
  if (!steps.length) return [];
  const first = steps[0].at, end = Math.max(records.at(-1).at, first + 1);
  const states = [];
  for (const { at, from, to } of steps) {
    if (!states.length) states.push({ name: from, since: first });
    if (states.at(-1).name !== to) states.push({ name: to, since: at });
  }
  const x = at => (at - first) / (end - first) * 1000;
  const names = [...new Set(states.map(state => state.name))];
  const bars = states.map(({ name, since }, place) => {
    const until = states[place + 1]?.since ?? end;
    return element('rect', { x: x(since), y: 0, width: Math.max(1, x(until) - x(since)), height: 20, class: `part-${PARTS[names.indexOf(name) % PARTS.length]}` },
      element('title', {}, `${name} for ${span(until - since)}`));
  });
  const legend = names.map((name, place) => element('li', { class: `part-${PARTS[place % PARTS.length]}` }, name));
  return [element('svg', { class: 'strip', viewBox: '0 0 1000 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': `states: ${states.map(state => state.name).join(', ')}` }, ...bars),
    element('ul', { class: 'legend' }, ...legend)];
};

const drawTimeline = () => {
  const { row, records, id } = timeline;
  if (id === null || !row) return;
  const parked = records.findLast(record => record.what === 'parked'), advanced = records.findLast(record => record.what === 'advanced');
  const ended = records.findLast(record => record.what === 'ended');
  const state = ended ? ended.text : advanced?.to ?? row.state;
  const wait = parked ?? { waits_for: row.waits_for, for_ms: row.deadline_ms };
  const told = topic => records.findLast(record => record.what === 'told' && record.topic === topic)?.text;
  document.querySelector('#timeline h2').textContent = `Session ${id}: ${row.listener}, ${row.peer}`;
  document.querySelector('#standing').textContent = ended ? state
    : `${state}; waits for ${wait.waits_for}, at most ${span(wait.for_ms * 1e6)}`;
  document.querySelector('#serves').textContent = ['request', 'file', 'destination'].map(told).filter(text => text).join('; ');
  document.querySelector('#states').replaceChildren(...drawStates(records));
  const first = records[0]?.at ?? 0;
  // When it was, where it was woken or began; behind that, how long after the step before.
  const after = (record, place) => !place || ['woken', 'began'].includes(record.what) ? span(record.at - first) : `+ ${span(record.at - records[place - 1].at)}`;
  const rows = records.map((record, place) => [record, after(record, place)]).slice(-STEPS).map(([record, when]) => element('tr', { class: `is-${record.what}` },
    element('td', { class: 'number' }, when),
    element('td', {}, record.text),
    element('td', { class: 'optional faint' }, record.place)));
  document.querySelector('#steps tbody').replaceChildren(...rows.reverse());
  document.querySelector('#quiet').hidden = records.length > 0;
};

const openTimeline = id => {
  closeTimeline();
  const listed = sessions.find(row => row.id === id);
  Object.assign(timeline, { id, records: [], row: listed ?? null });
  const source = timeline.source = new EventSource(`events?session=${id}`);
  source.addEventListener('session', event => {
    timeline.row = JSON.parse(event.data);
    drawTimeline();
  });
  source.addEventListener('records', event => {
    timeline.records = timeline.records.concat(JSON.parse(event.data)).slice(-2 * STEPS);
    drawTimeline();
  });
  // A session that does more than can be seen: the newest of it is told.
  source.addEventListener('missing', event => timeline.records.push({ at: timeline.records.at(-1)?.at ?? 0, what: 'missing', text: `(${event.data} steps are not told)`, place: '' }));
  source.addEventListener('end', () => source.close());
  // A stream that is refused, or was cut, begins anew with what the session does then: a gap would not be seen.
  source.addEventListener('error', () => {
    source.close();
    if (timeline.source === source && !timeline.records.some(record => record.what === 'ended')) {
      document.querySelector('#standing').textContent = 'it has ended, or nobody tells of it any more';
    }
  });
  const panel = document.querySelector('#timeline');
  panel.hidden = false;
  drawTimeline();
  panel.querySelector('h2').focus();
};

// The turns.

const turns = { source: null, all: [], place: 0, first: 0, isReading: false }; // of a record the number of the first of `all`, too

// The numbers of a record's turns: the first, and the one behind the last.
const numbers = record && { first: Number(record.dataset.first), end: Number(record.dataset.end) };

// A turn's parts with their lengths, and what was done in each.
const partsOf = turn => {
  const end = turn.at(-1).at, parts = [];
  for (const record of turn) {
    if (record.what === 'part') parts.push({ name: record.part, at: record.at, until: end, records: [] });
    const last = parts.at(-1), before = parts.at(-2);
    if (record.what === 'part' && before) before.until = record.at;
    if (last && !['part', 'turn_ended'].includes(record.what)) last.records.push(record);
  }
  return parts;
};

// The sessions that were pumped in a turn, in order, each with what it did.
const pumpsOf = turn => {
  const pumps = [], why = new Map();
  let pump = null;
  for (const record of turn) {
    if (record.what === 'woken') why.set(record.id, record.why);
    if (record.what === 'pumped') pumps.push(pump = { id: record.id, why: why.get(record.id) ?? 'it waited', at: record.at, until: record.at, did: [] });
    else if (pump && record.id === pump.id) {
      pump.until = record.at;
      pump.did.push(record);
    }
  }
  return pumps;
};

const whose = id => {
  const row = sessions.find(session => session.id === id);
  return row ? `session ${id} (${row.listener}, ${row.peer})` : `session ${id}`;
};

// What the loop does as a ring: its parts in their order, those of this turn full, each as thick as it took of the turn.
const ringOf = (parts, length) => {
  const arcs = PARTS.map((name, place) => {
    const took = parts.filter(part => part.name === name).reduce((sum, part) => sum + part.until - part.at, 0);
    const angle = turn => [50 + 40 * Math.sin(turn * 2 * Math.PI), 50 - 40 * Math.cos(turn * 2 * Math.PI)].map(at => at.toFixed(2));
    const [from, to] = [angle((place + .04) / PARTS.length), angle((place + .96) / PARTS.length)];
    const is = parts.some(part => part.name === name);
    return element('path', { d: `M${from}A40 40 0 0 1 ${to}`, class: is ? `arc part-${name}` : 'arc idle', 'stroke-width': is ? 4 + 12 * took / length : 2 },
      element('title', {}, is ? `${name}: ${span(took)}` : `${name}: nothing to do`));
  });
  return element('svg', { class: 'ring', viewBox: '0 0 100 100', role: 'img', 'aria-label': 'the parts of a turn, in their order' }, ...arcs,
    element('text', { x: 50, y: 48 }, span(length)), element('text', { x: 50, y: 60 }, 'this turn'));
};

const drawTurn = () => {
  const { all, place } = turns, turn = all[place];
  document.querySelector('#which').textContent = !turn ? 'no turn yet' : numbers ? `turn ${turns.first + place} of ${numbers.first > 1 ? `${numbers.first} to ` : ''}${numbers.end - 1}` : `turn ${place + 1} of ${all.length}`;
  const shown = document.querySelector('#turn');
  if (!turn) return shown.replaceChildren();
  const parts = partsOf(turn), begin = turn[0].at, length = Math.max(1, turn.at(-1).at - begin);
  const slept = place ? begin - all[place - 1].at(-1).at : null;
  const bar = parts.map(part => element('rect', { x: (part.at - begin) / length * 1000, y: 0, width: Math.max(1, (part.until - part.at) / length * 1000), height: 20, class: `part-${part.name}` },
    element('title', {}, `${part.name}: ${span(part.until - part.at)}`)));
  const legend = parts.map(part => element('li', { class: `part-${part.name}` }, `${part.name} ${span(part.until - part.at)}`));
  const pumps = pumpsOf(turn).map(pump => element('li', {}, element('b', {}, whose(pump.id)), ` ${pump.why}, ${span(pump.until - pump.at)}`,
    element('ul', {}, ...pump.did.map(record => element('li', { title: record.place }, record.text)))));
  const others = turn.filter(record => record.id === undefined && !['turn', 'part', 'turn_ended'].includes(record.what))
    .map(record => element('li', { title: record.place }, record.text));
  const began = turn.filter(record => record.what === 'began').map(record => element('li', {}, record.text));
  shown.replaceChildren(
    element('p', { id: 'summary' }, `${turn[0].events ?? 'some'} events, ${span(length)}; ${turn.at(-1).runnable ?? 'some'} runnable sessions are left`,
      slept === null ? '' : `; the loop slept ${span(slept)} before`),
    element('div', { class: 'beside' }, ringOf(parts, length), element('div', { class: 'grow' },
      element('svg', { class: 'strip', viewBox: '0 0 1000 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': 'the parts of the turn by their lengths' }, ...bar),
      element('ul', { class: 'legend' }, ...legend))),
    element('ol', { class: 'pumps' }, ...pumps),
    element('ul', { class: 'pumps' }, ...began, ...others));
};

const drawAllTurns = () => {
  const lengths = turns.all.map(turn => Math.max(1, turn.at(-1).at - turn[0].at)), top = Math.log1p(Math.max(...lengths, 1));
  const width = 1000 / TURNS;
  const bars = lengths.map((length, place) => {
    const high = Math.max(3, Math.log1p(length) / top * 36);
    return element('rect', { x: place * width, y: 40 - high, width: Math.max(1, width - 2), height: high, class: place === turns.place ? 'chosen' : '', 'data-place': place },
      element('title', {}, `turn ${place + 1}: ${span(length)}`));
  });
  document.querySelector('#overview').replaceChildren(...bars);
};

const showTurn = place => {
  turns.place = Math.min(Math.max(place, 0), Math.max(turns.all.length - 1, 0));
  drawAllTurns();
  drawTurn();
};

// Turns of a record, from one on or those before it, as many as are told at once; the one is shown that is next to it.
const readTurns = async (direction, number) => {
  if (turns.isReading) return; // a key that is held down would lead back to the same ones
  turns.isReading = true;
  try {
    const all = await (await fetch(`turns.json?${direction}=${number}`)).json();
    if (!all.length) return;
    Object.assign(turns, { all, first: direction === 'from' ? Math.max(number, numbers.first) : Math.min(number, numbers.end) - all.length });
    showTurn(direction === 'from' ? 0 : all.length - 1);
  } finally {
    turns.isReading = false;
  }
};

const isWatching = () => turns.source !== null;

const watchTurns = () => {
  const source = turns.source = new EventSource(`events?turns=${TURNS}`);
  source.addEventListener('turns', event => {
    const all = JSON.parse(event.data);
    if (all.length) turns.all = all;
    showTurn(turns.all.length - 1);
  });
  document.querySelector('#watch').textContent = 'Pause';
};

// Nothing is written any more while one steps through what was.
const pauseTurns = () => {
  turns.source?.close();
  turns.source = null;
  document.querySelector('#watch').textContent = 'Watch the turns';
};

const toggle = () => isWatching() ? pauseTurns() : watchTurns();

const step = by => {
  if (!numbers) pauseTurns();
  const place = turns.place + by;
  if (numbers && place < 0) return readTurns('before', turns.first);
  if (numbers && place >= turns.all.length) return readTurns('from', turns.first + turns.all.length);
  showTurn(place);
};

const KEYS = new Map([['ArrowLeft', () => step(-1)], ['ArrowRight', () => step(1)],
  ['Home', () => numbers ? readTurns('from', numbers.first) : step(-TURNS)], ['End', () => numbers ? readTurns('before', numbers.end) : step(TURNS)],
  ...numbers ? [] : [[' ', toggle]]]);

const buildInspector = () => {
  const button = (id, name, label, does) => {
    const made = element('button', { type: 'button', id, 'aria-label': label }, name);
    made.addEventListener('click', does);
    return made;
  };
  const overview = element('svg', { id: 'overview', class: 'overview', viewBox: '0 0 1000 40', preserveAspectRatio: 'none', role: 'img', 'aria-label': 'the last turns by their lengths' });
  overview.addEventListener('click', event => {
    const place = event.target.dataset?.place;
    if (place !== undefined) step(Number(place) - turns.place);
  });
  const watch = element('button', { type: 'button', id: 'watch' }, 'Watch the turns');
  watch.addEventListener('click', toggle);
  const goTo = element('input', { type: 'number', id: 'go', 'aria-label': 'go to a turn', placeholder: 'turn', min: numbers?.first, max: numbers?.end - 1 });
  goTo.addEventListener('change', () => readTurns('from', Math.min(Math.max(goTo.valueAsNumber || 0, numbers.first), numbers.end - 1)));
  const inspector = document.querySelector('#inspector');
  inspector.replaceChildren(
    element('h2', {}, 'Turn by turn'),
    element('div', { class: 'controls' }, numbers ? goTo : watch, button('back', '◀', 'one turn back', () => step(-1)), button('forth', '▶', 'one turn forth', () => step(1)),
      element('span', { id: 'which', role: 'status' }, ''), element('span', { class: 'faint optional' }, `${numbers ? '' : 'space: watch or pause; '}← →: step; Home, End`)),
    overview, element('div', { id: 'turn' }));
  inspector.addEventListener('keydown', event => {
    const does = KEYS.get(event.key);
    // Space on a button is a click on it already, and keys are a field's own.
    if (!does || (event.key === ' ' && event.target.tagName === 'BUTTON') || event.target.tagName === 'INPUT') return;
    event.preventDefault();
    does();
  });
};

const buildTimeline = () => {
  const close = element('button', { type: 'button', id: 'close' }, 'Close');
  close.addEventListener('click', closeTimeline);
  const panel = document.querySelector('#timeline');
  panel.replaceChildren(
    element('div', { class: 'controls' }, element('h2', { tabindex: '-1' }, ''), close),
    element('p', { id: 'standing', role: 'status' }), element('p', { id: 'serves', class: 'faint' }),
    element('div', { id: 'states' }),
    element('p', { id: 'quiet', class: 'faint' }, 'Nothing has happened since you look.'),
    element('div', { class: 'steps' }, element('table', { id: 'steps' },
      element('thead', {}, element('tr', {}, element('th', { scope: 'col', class: 'number' }, 'after'), element('th', { scope: 'col' }, 'what'), element('th', { scope: 'col', class: 'optional' }, 'where'))),
      element('tbody'))));
  panel.addEventListener('keydown', event => { if (event.key === 'Escape') closeTimeline(); });
  document.querySelector('#sessions tbody').addEventListener('click', event => {
    const row = event.target.closest('tr');
    if (row) openTimeline(Number(row.dataset.id));
  });
};

buildInspector();
buildTimeline();
if (numbers) readTurns('before', numbers.end);
