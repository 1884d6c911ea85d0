// PostgreSQL's wire protocol, as far as the server needs it: messages taken apart and put together.
//
// What a message means for a session is in session.mjs; executing it is in database.mjs.

const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102

/** A message of the given type: strings are ended with a zero byte, buffers are taken as they are. */
export function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(`${part}\0`))))
  const head = Buffer.alloc(5)
  head.write(type, 0)
  head.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}

export const query = (sql) => message('Q', sql)
export const sync = message('S')
export const readyForQuery = (status) => message('Z', Buffer.from(status))
export const commandComplete = (tag) => message('C', tag)
export const parameterStatus = (name, value) => message('S', name, value)
export const closeStatement = (name) => message('C', Buffer.from('S'), name)

/** "Send your rows now", in the text (0) or binary (1) format; how many columns there are nobody asks. */
export const copyInResponse = (format) => message('G', Buffer.from([format, 0, 0]))

/** Lets anybody in, and hands out the numbers for a cancel request, which is never heeded. */
export const authenticated = Buffer.concat([message('R', Buffer.alloc(4)), message('K', Buffer.alloc(8))])

export function errorResponse(severity, code, text) {
  return message('E', `S${severity}`, `V${severity}`, `C${code}`, `M${text}`, Buffer.alloc(1))
}

/** The messages in a buffer of whole ones, each with its type and all its bytes. */
export function* messagesIn(buffer) {
  for (let at = 0; at < buffer.length; ) {
    const end = at + 1 + buffer.readInt32BE(at + 1)
    yield { type: String.fromCharCode(buffer[at]), bytes: buffer.subarray(at, end) }
    at = end
  }
}

/** The buffer without its messages of one type. */
export function without(type, buffer) {
  return Buffer.concat([...messagesIn(buffer)].filter((each) => each.type !== type).map((each) => each.bytes))
}

/** The status in the last ReadyForQuery: I idle, T in a transaction, E in a failed one; null where there is none. */
export function lastStatus(buffer) {
  let status = null
  for (const { type, bytes } of messagesIn(buffer)) if (type === 'Z') status = String.fromCharCode(bytes[5])
  return status
}

/** The zero-ended strings in a buffer, from a position on. */
export function strings(buffer, from) {
  return buffer.subarray(from).toString().split('\0').slice(0, -1)
}

/**
 * A client's messages, whole, in order: first `encryption`, `cancel` and `startup`, which have no type letter,
 * then those that have one. Ends when the client leaves, however it does.
 */
export async function* messagesFrom(socket) {
  let started = false
  let parts = []
  let have = 0
  let need = 8
  try {
    // The socket outlives this: a session that ends with an error still has to say so.
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      parts.push(chunk)
      have += chunk.length
      if (have < need) continue // A long message is put together once, not with every chunk.
      let rest = Buffer.concat(parts)
      for (;;) {
        const letter = started ? 1 : 0
        need = rest.length < letter + 4 ? letter + 4 : letter + rest.readInt32BE(letter)
        if (rest.length < need) break
        const bytes = rest.subarray(0, need)
        rest = rest.subarray(need)
        if (started) {
          yield { type: String.fromCharCode(bytes[0]), bytes }
          continue
        }
        const code = bytes.readInt32BE(4)
        started = ![SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST].includes(code)
        yield { type: started ? 'startup' : code === CANCEL_REQUEST ? 'cancel' : 'encryption', bytes }
      }
      parts = [rest]
      have = rest.length
    }
  } catch (error) {
    // A connection that broke ends the session as one that was closed does.
    if (!['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE'].includes(error.code)) throw error
  }
}
