// PostgreSQL with TimescaleDB for tests, where no server of that kind is at hand: node --expose-gc server.mjs community|apache
//
// Listens on a free port of 127.0.0.1, prints it, and serves until its standard input ends. Everybody may in, as
// postgres; everything is in memory. A database is an instance of its own, so each that is in use takes half a
// gigabyte. What one backend can't do, this can't: transactions take turns, jobs run only by run_job, nobody is
// notified, requests to cancel are ignored, and locks of sessions (not of transactions) hold nobody off.

import net from 'node:net'

import { Database, emptyData } from './database.mjs'
import { Session } from './session.mjs'

const CREATE = /^\s*create\s+database\s+(\w+)(?:\s+template\s+(\w+))?\s*;?\s*$/i
const CLOSE = /^\s*alter\s+database\s+(\w+)\s+with\s+allow_connections\s+false\s*;?\s*$/i
const DROP = /^\s*drop\s+database\s+(if\s+exists\s+)?(\w+)(\s+with\s*\(\s*force\s*\))?\s*;?\s*$/i

const refused = (code, text) => Object.assign(new Error(text), { code })

/** The server's databases, by name. */
class Databases {
  #edition
  #byName
  #closed = new Set(['template0'])

  constructor(edition, empty) {
    this.#edition = edition
    this.#byName = new Map([['template0', new Database(edition, empty)]])
  }

  /** The database that a session asks for. */
  get(name) {
    if (this.#closed.has(name)) throw refused('55000', `database "${name}" is not currently accepting connections`)
    return this.#existing(name)
  }

  #existing(name) {
    const database = this.#byName.get(name)
    if (!database) throw refused('3D000', `database "${name}" does not exist`)
    return database
  }

  /** Does what the statement says, and returns the tag to tell that it is done. */
  async command(sql) {
    const create = CREATE.exec(sql)
    if (create) return this.#create(create[1], create[2] ?? 'template0')
    const close = CLOSE.exec(sql)
    if (close) return this.#close(close[1])
    const drop = DROP.exec(sql)
    if (drop) return this.#drop(drop[2], { missingIsFine: Boolean(drop[1]), force: Boolean(drop[3]) })
    throw refused(
      '42601',
      'the database "postgres" of this server only knows CREATE DATABASE name [TEMPLATE name], ' +
        'ALTER DATABASE name WITH ALLOW_CONNECTIONS false and DROP DATABASE [IF EXISTS] name [WITH (FORCE)], as simple queries',
    )
  }

  async #create(name, templateName) {
    if (this.#byName.has(name)) throw refused('42P04', `database "${name}" already exists`)
    const template = this.#existing(templateName)
    await this.#leftByAll(template, `source database "${templateName}"`)
    this.#byName.set(name, new Database(this.#edition, await template.data()))
    return 'CREATE DATABASE'
  }

  #close(name) {
    this.#existing(name)
    this.#closed.add(name)
    return 'ALTER DATABASE'
  }

  async #drop(name, { missingIsFine, force }) {
    if (missingIsFine && !this.#byName.has(name)) return 'DROP DATABASE'
    const database = this.#existing(name)
    if (force) await Promise.all([...database.sessions].map((session) => session.end()))
    else await this.#leftByAll(database, `database "${name}"`)
    this.#byName.delete(name)
    this.#closed.delete(name)
    await database.close()
    return 'DROP DATABASE'
  }

  /** Gives those who are leaving a moment, as PostgreSQL does, and refuses while others are in. */
  async #leftByAll(database, what) {
    const patience = new Promise((resolve) => setTimeout(resolve, 5000).unref())
    await Promise.race([patience, Promise.all([...database.sessions].map((session) => session.over))])
    if (database.sessions.size) throw refused('55006', `${what} is being accessed by other users`)
  }
}

const edition = process.argv[2]
if (edition !== 'community' && edition !== 'apache') {
  console.error('say which edition: node server.mjs community|apache')
  process.exit(2)
}
const databases = new Databases(edition, await emptyData())
const server = net.createServer({ noDelay: true }, (socket) => new Session(socket, databases))
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
// Whoever started this holds its standard input: when that is gone, so is the need.
process.stdin.on('end', () => process.exit(0)).resume()
