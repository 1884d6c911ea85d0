// One client's session: what it says, made to fit a backend that it shares with others.
//
// This handles start-up, COPY, prepared statements and termination. Bytes are in protocol.mjs, turns and settings in
// database.mjs.

import {
  authenticated,
  closeStatement,
  commandComplete,
  copyInResponse,
  errorResponse,
  lastStatus,
  message,
  messagesFrom,
  parameterStatus,
  query,
  readyForQuery,
  strings,
  sync,
  without,
} from './protocol.mjs'

/** What clients are told about the server at start-up; a setting of the client's own is told as it asked for it. */
const TOLD_AT_START = {
  server_version: '17.5',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  application_name: '',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  integer_datetimes: 'on',
  standard_conforming_strings: 'on',
  is_superuser: 'on',
  session_authorization: 'postgres',
}

const LONG_BATCH_BYTES = 32 * 1024

const COPY_IN = /^(?:\s|--.*\n|\/\*[^]*?\*\/)*copy\b[^;]*\bfrom\s+stdin\b/i
const COPY_BINARY = /\bfrom\s+stdin\b.*\bbinary\b/is
const FORGET_ALL = /^\s*(discard|deallocate)\s+all\s*;?\s*$/i
const MAY_SET = /(^|;)\s*(set\s+(?!local\b)|reset\b)|\bset_config\s*\(/i
const CREATES_EXTENSION = /\bcreate\s+extension\b[^;]*\btimescaledb\b/i

/** The database that is always there, as on any server. */
const MAINTENANCE = 'postgres'

let sessionsSoFar = 0

/** `-c name=value --name=value`, where a backslash keeps a space from ending the value. */
function settingsInOptions(options) {
  const words = options.match(/(?:\\.|[^\s\\])+/g) ?? []
  const pairs = words
    .filter((word) => word !== '-c')
    .map((word) => word.replace(/^-c|^--/, '').replace(/\\(.)/g, '$1'))
    .map((word) => [word.slice(0, word.indexOf('=')).replaceAll('-', '_'), word.slice(word.indexOf('=') + 1)])
  return Object.fromEntries(pairs)
}

/** What a start-up packet asks for: the database's name, and the session's settings. */
function startupRequest(bytes) {
  const words = strings(bytes, 8)
  const given = {}
  for (let at = 0; at + 1 < words.length; at += 2) given[words[at]] = words[at + 1]
  const { user, database = user, options = '', replication, ...others } = given
  const settings = Object.entries({ ...settingsInOptions(options), ...others })
  // The backend has one user. Others act as the role of their name; no password is asked for.
  if (user !== MAINTENANCE) settings.push(['role', user])
  return { name: database, asked: Object.fromEntries(settings.map(([name, value]) => [name.toLowerCase(), value])) }
}

function toldAtStart(asked) {
  return Object.entries(TOLD_AT_START).map(([name, value]) => parameterStatus(name, asked[name.toLowerCase()] ?? value))
}

export class Session {
  #socket
  #databases
  #database = null
  #number = ++sessionsSoFar
  #status = 'I' // as in ReadyForQuery
  #batch = [] // messages of the extended protocol, until the client says Sync or Flush
  #batchBytes = 0
  #copy = null // a COPY FROM STDIN with its rows, until the client says that they are all
  #mayHaveSet = false
  #createdExtension = false

  /** Settings that it asked for when it came: RESET goes back to them. */
  asked = {}
  /** Settings that it made since. Both by lower-case names. */
  settings = {}
  /** The prepared statements that it has, by the names that the backend knows. */
  statements = new Map()
  lastStatement = 'none'
  /** Settled when the session is over and has left nothing behind. */
  over

  constructor(socket, databases) {
    this.#socket = socket
    this.#databases = databases
    this.over = this.#run()
  }

  get who() {
    return `session ${this.#number} (${this.asked.application_name || 'no application_name'})`
  }

  /** Ends the session, whatever it is at. */
  async end() {
    this.#socket.destroy()
    await this.over
  }

  async #run() {
    this.#socket.on('error', () => {}) // told by the end of the messages as well
    try {
      for await (const { type, bytes } of messagesFrom(this.#socket)) {
        if (type === 'X' || type === 'cancel') break
        await this.#receive(type, bytes)
      }
    } catch (error) {
      const crash = `the backend in WebAssembly crashed (${error.message}), and its database is lost; last statement: `
      this.#send(errorResponse('FATAL', error.code ?? 'XX000', error.code ? error.message : crash + this.lastStatement))
    }
    await this.#leave().catch((error) => console.error(`${this.who} could not be cleaned up after:`, error.message))
    this.#socket.end()
  }

  #send(...messages) {
    if (this.#socket.writable) this.#socket.write(Buffer.concat(messages))
  }

  async #receive(type, bytes) {
    if (type === 'encryption') this.#send(Buffer.from('N'))
    else if (type === 'startup') await this.#start(bytes)
    else if (!this.#database) await this.#maintain(type, bytes)
    else if (this.#copy) await this.#receiveCopy(type, bytes)
    else if (type === 'Q') await this.#receiveQuery(strings(bytes, 5)[0], bytes)
    else await this.#receiveExtended(type, bytes)
  }

  // The backend is not waited for: on a real server, too, one gets in while others are inside a transaction.
  async #start(bytes) {
    const { name, asked } = startupRequest(bytes)
    this.asked = asked
    if (name !== MAINTENANCE) {
      this.#database = this.#databases.get(name)
      this.#database.sessions.add(this)
      await this.#database.open()
    }
    this.#send(authenticated, ...toldAtStart(asked), readyForQuery('I'))
  }

  /** The maintenance database is none: it has no tables, and makes and removes the others. */
  async #maintain(type, bytes) {
    if (type !== 'Q' && type !== 'S') return
    try {
      const sql = type === 'Q' ? strings(bytes, 5)[0] : ''
      this.#send(commandComplete(await this.#databases.command(sql)))
    } catch (error) {
      this.#send(errorResponse('ERROR', error.code ?? 'XX000', error.message))
    }
    this.#send(readyForQuery('I'))
  }

  async #receiveQuery(sql, bytes) {
    const everything = FORGET_ALL.exec(sql)
    if (everything) {
      await this.#forgetAll(everything[1].toUpperCase())
    } else if (COPY_IN.test(sql)) {
      // The backend reads the rows from the input that the statement came with, so all of them must be there.
      this.#note(sql)
      this.#copy = [bytes]
      this.#send(copyInResponse(COPY_BINARY.test(sql) ? 1 : 0))
    } else {
      this.#note(sql)
      await this.#execute([bytes])
    }
  }

  async #receiveCopy(type, bytes) {
    if (type !== 'd' && type !== 'c' && type !== 'f') return // Sync and Flush mean nothing here.
    this.#copy.push(bytes)
    if (type === 'd') return
    const messages = this.#copy
    this.#copy = null
    await this.#execute(messages, (answer) => without('G', answer)) // the client has been told already
  }

  async #receiveExtended(type, bytes) {
    this.#batch.push(this.#renamed(type, bytes))
    this.#batchBytes += bytes.length
    // A server answers when it has a good deal to say; clients that send without end wait for that at times.
    const long = type === 'E' && this.#batchBytes > LONG_BATCH_BYTES
    if (type !== 'S' && type !== 'H' && !long) return
    const messages = this.#batch
    this.#batch = []
    this.#batchBytes = 0
    await this.#execute(messages)
  }

  /** The message with a prepared statement's name made this session's own: all sessions share one backend's names. */
  #renamed(type, bytes) {
    const own = (name) => (name ? `${this.#number}:${name}` : name)
    if (type === 'P') {
      const [name, sql] = strings(bytes, 5)
      this.statements.set(own(name), sql)
      return message('P', own(name), bytes.subarray(5 + Buffer.byteLength(name) + 1))
    }
    if (type === 'B') {
      const [portal, name] = strings(bytes, 5)
      const rest = 5 + Buffer.byteLength(portal) + 1 + Buffer.byteLength(name) + 1
      this.#note(this.statements.get(own(name)) ?? '')
      return message('B', portal, own(name), bytes.subarray(rest))
    }
    if ((type === 'C' || type === 'D') && bytes[5] === 'S'.charCodeAt(0)) {
      const [name] = strings(bytes, 6)
      if (type === 'C') this.statements.delete(own(name))
      return message(type, Buffer.from('S'), own(name))
    }
    return bytes
  }

  #note(sql) {
    this.lastStatement = sql.trim().slice(0, 200)
    this.#mayHaveSet ||= MAY_SET.test(sql)
    this.#createdExtension ||= CREATES_EXTENSION.test(sql)
  }

  /** DISCARD ALL and DEALLOCATE ALL, of this session's things alone. */
  async #forgetAll(what) {
    const close = [...this.statements.keys()].map(closeStatement)
    this.statements.clear()
    await this.#execute([...close, sync], () => Buffer.alloc(0))
    if (what === 'DISCARD') {
      this.#mayHaveSet = true
      await this.#execute([query('RESET ALL')], () => Buffer.alloc(0))
    }
    this.#send(commandComplete(`${what} ALL`), readyForQuery(this.#status))
  }

  async #execute(messages, shown = (answer) => answer) {
    await this.#database.takeTurn(this)
    await this.#database.applySettings(this)
    const answer = await this.#database.execute(messages)
    const status = lastStatus(answer)
    if (status) this.#status = status
    if (status === 'I') await this.#endTurn()
    this.#send(shown(answer))
  }

  async #endTurn() {
    if (this.#mayHaveSet) await this.#database.readSettings(this)
    if (this.#createdExtension) await this.#database.extensionCreated()
    this.#mayHaveSet = this.#createdExtension = false
    this.#database.endTurn(this)
  }

  async #leave() {
    if (!this.#database) return
    try {
      await this.#database.takeTurn(this)
      await this.#database.execute([sync, query('ROLLBACK')])
      await this.#database.cleanUpAfter(this)
    } finally {
      this.#database.endTurn(this)
      this.#database.sessions.delete(this)
    }
  }
}
