#!/usr/bin/env node
// Runs the public suite `http-cache-tests` through the proxy, and scores the answers as the suite does.
//
//   npm install --prefix target/npm --ignore-scripts http-cache-tests@0.4.5
//   cargo build
//   NETLAB_BIN=target/debug/netlab-reactor node tests/http_cache/run.mjs
//   … run.mjs --form gateway                             the one form; default: all three, one after the other
//   … run.mjs --form gateway --only vary-match,age-parse-dup   these tests, and those that they depend on
//   … run.mjs --form gateway --only vary-match --dump    what client and origin sent and saw, and the proxy's log
//   … run.mjs --kind required                            prints failures of this kind only (required, optimal, check)
//   … run.mjs --passed                                   prints what passed, too
//   … run.mjs --cache off                                without a cache
//   … run.mjs --json                                     one JSON object on a line of its own at the end
//   … run.mjs --proxy 127.0.0.1:8080 --origin-port 8000  a proxy that runs already, as any peer; its origin is then
//                                                        started at that port
//
// The forms:
//   gateway  GET /path at a listener whose `upstream` is the suite's origin
//   forward  GET http://ORIGIN/path, as a client that knows its proxy asks
//   address  GET /ORIGIN/path, as in a browser's address bar
//
// NETLAB_BIN is the program (default target/release/netlab-reactor), NETLAB_TEST_NPM the folder with the suite
// (default target/npm). The suite's client runs in this process, its origin and the proxy in one each; both end with
// this one. All tests of a form run at once (--chunk N: so many at a time), as most of their time is pauses.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
const SUITE = join(process.env.NETLAB_TEST_NPM ?? join(REPOSITORY, 'target/npm'), 'node_modules/http-cache-tests')
const BINARY = resolve(process.env.NETLAB_BIN ?? join(REPOSITORY, 'target/release/netlab-reactor'))
const FORMS = ['gateway', 'forward', 'address']
const FORM_TIMEOUT_MS = 120_000
const START_TIMEOUT_MS = 20_000

// What the suite calls a result, by the sign that it shows for it.
const OUTCOMES = {
  '✅': 'pass', '⛔️': 'fail', '⚠️': 'fail', Y: 'yes', N: 'no', '🔹': 'setup failed', '⁉️': 'harness failed',
  '⚪️': 'dependency failed', '↻': 'retried', '-': 'not run'
}

const { values: options } = parseArgs({
  options: {
    form: { type: 'string' },
    only: { type: 'string' },
    kind: { type: 'string' },
    cache: { type: 'string', default: 'on' },
    chunk: { type: 'string', default: '1000' },
    proxy: { type: 'string' },
    'origin-port': { type: 'string', default: '0' },
    dump: { type: 'boolean', default: false },
    passed: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false }
  }
})

function fail (message) {
  console.error(message)
  process.exit(1)
}

const wrong = options.form !== undefined && !FORMS.includes(options.form)
if (wrong) fail(`no such form: ${options.form}; there are ${FORMS.join(', ')}`)
if (!existsSync(SUITE)) {
  fail(`${SUITE} is missing: npm install --prefix target/npm --ignore-scripts http-cache-tests@0.4.5`)
}
if (!options.form) await everyForm()

// ---- processes ---------------------------------------------------------------------------------

const folder = mkdtempSync(join(tmpdir(), 'http-cache-tests-'))
const children = []
process.on('exit', () => {
  children.forEach(child => child.kill('SIGKILL'))
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))
setTimeout(() => fail(`${options.form}: no end after ${FORM_TIMEOUT_MS / 1000} s`), FORM_TIMEOUT_MS).unref()

// Starts a process, and waits until its output matches; the match.
function start (name, command, args, env, pattern) {
  const child = spawn(command, args, { cwd: folder, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  return new Promise((resolve) => {
    let text = ''
    const late = setTimeout(() => fail(`${name} is not ready: ${text}`), START_TIMEOUT_MS)
    const read = data => {
      if (options.dump) process.stdout.write(data)
      if (text === undefined) return
      text += data
      const match = pattern.exec(text)
      if (!match) return
      text = undefined
      clearTimeout(late)
      resolve(match)
    }
    child.stdout.on('data', read)
    child.stderr.on('data', read)
    child.on('error', error => fail(`${name}: ${error.message}`))
    child.on('exit', (code, signal) => fail(`${name} ended (${code ?? signal}): ${text ?? ''}`))
  })
}

async function startOrigin () {
  const env = { npm_config_protocol: 'http', npm_config_port: options['origin-port'], npm_config_pidfile: join(folder, 'pid') }
  const pattern = /^Listening on http:\/\/\S+:(\d+)\//m
  const [, port] = await start('the origin', process.execPath, [join(SUITE, 'server/server.mjs')], env, pattern)
  return Number(port)
}

async function startProxy (originPort) {
  if (options.proxy) return options.proxy
  const gateway = options.form === 'gateway' ? `upstream = "http://127.0.0.1:${originPort}"\n` : ''
  const file = join(folder, 'netlab.toml')
  writeFileSync(file, `[[listener]]
kind = "proxy"
bind = "127.0.0.1:0"
allow_destinations = ["127.0.0.0/8"]
${gateway}cache = "${options.cache}"
cache_dir = "cache"
cache_max_bytes = "64MiB"
`)
  const args = [options.dump ? '-v' : '-q', '--config', file]
  const [, address] = await start('the proxy', BINARY, args, {}, /^listening proxy (\S+)\n[^]*^ready$/m)
  return address
}

// ---- the client --------------------------------------------------------------------------------

// Sends its requests to the proxy, in absolute form. Each on a connection of its own, as the suite's client does
// without an agent.
class ForwardAgent extends http.Agent {
  constructor (proxy) {
    super({ keepAlive: false })
    const [host, port] = proxy.split(':')
    this.proxy = { host, port }
  }

  addRequest (request, target) {
    request.path = `http://${target.host}:${target.port}${request.path}`
    super.addRequest(request, { ...target, ...this.proxy })
  }
}

const suiteModule = path => import(pathToFileURL(join(SUITE, path)))

// The chosen tests and all that they depend on.
function choose (suites) {
  if (!options.only) return suites
  const all = new Map(suites.flatMap(suite => suite.tests).map(test => [test.id, test]))
  const chosen = new Set()
  const add = id => {
    if (chosen.has(id)) return
    chosen.add(id)
    const test = all.get(id) ?? fail(`no such test: ${id}`)
    if (options.dump) test.dump = true
    test.depends_on?.forEach(add)
  }
  options.only.split(',').forEach(add)
  return suites.map(suite => ({ ...suite, tests: suite.tests.filter(test => chosen.has(test.id)) }))
}

// Runs the tests; for each that ran: { id, kind, outcome, passed, reason, name }.
async function run (suites, chosen, proxy, originPort) {
  const { runTests, getResults } = await suiteModule('client/runner.mjs')
  const display = await suiteModule('lib/display.mjs')
  const fetch = createRequire(join(SUITE, 'cli.mjs'))('node-fetch')
  const origin = `127.0.0.1:${originPort}`
  const base = { gateway: `http://${proxy}`, forward: `http://${origin}`, address: `http://${proxy}/${origin}` }
  const agent = options.form === 'forward' ? new ForwardAgent(proxy) : undefined
  await runTests(chosen, (url, init) => fetch(url, { ...init, agent }), false, base[options.form], Number(options.chunk))
  const results = getResults()
  return chosen.flatMap(suite => suite.tests).filter(test => test.id in results).map(test => {
    const outcome = OUTCOMES[display.determineTestResult(suites, test.id, results)[2]]
    const result = results[test.id]
    return {
      id: test.id,
      kind: test.kind ?? 'required',
      outcome,
      passed: outcome === 'pass' || outcome === 'yes',
      reason: result === true ? '' : `${result[0]}: ${result[1]}`,
      name: test.name
    }
  })
}

// ---- the report --------------------------------------------------------------------------------

function report (tests) {
  const score = {}
  for (const kind of ['required', 'optimal', 'check']) {
    const of = tests.filter(test => test.kind === kind)
    score[kind] = { passed: of.filter(test => test.passed).length, of: of.length }
    if (options.kind && options.kind !== kind) continue
    for (const test of of.filter(test => options.passed || !test.passed)) {
      console.log(`${options.form} ${kind} ${test.id}: ${test.outcome}${test.reason && `, ${test.reason}`} (${test.name})`)
    }
  }
  const told = Object.entries(score).map(([kind, { passed, of }]) => `${passed} of ${of} ${kind}`)
  console.log(`${options.form}: ${told.join(', ')}`)
  return options.json ? JSON.stringify({ form: options.form, score, tests }) + '\n' : ''
}

// The suite's client keeps its results in one place for each process, so each form has a process.
async function everyForm () {
  for (const form of FORMS) {
    const args = [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--form', form]
    const child = spawn(process.execPath, args, { stdio: 'inherit' })
    const code = await new Promise(resolve => child.on('exit', resolve))
    if (code !== 0) process.exit(1)
  }
  process.exit(0)
}

// The 334 tests of its index; those of Surrogate-Control (a draft never finished) stand beside it.
const { default: suites } = await suiteModule('tests/index.mjs')
const originPort = await startOrigin()
const proxy = await startProxy(originPort)
const last = report(await run(suites, choose(suites), proxy, originPort))
process.stdout.write(last, () => process.exit(0)) // a pipe takes it in pieces
