// Live connections: one page, a few sockets, each back by itself after a break, and a snapshot where something was missed.
const handlers = new Map()

export function on (type, handler) {
  if (!handlers.has(type)) handlers.set(type, [])
  handlers.get(type).push(handler)
}

const emit = (type, message) => { for (const handler of handlers.get(type) ?? []) handler(message) }
export const address = path => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws/${path}/`

const badge = document.querySelector('[data-connection]')
function show (state) {
  if (!badge) return
  badge.dataset.state = state
  badge.textContent = state === 'on' ? badge.dataset.on : badge.dataset.off
}

// Codes that no new try would change: not signed in, not allowed, not there.
const FINAL = new Set([4401, 4403, 4404])
const LONGEST_MS = 15000

export function live (path) {
  let wait = 500
  let seq = null
  let socket
  const connection = { send: message => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)) }, onopen: null }
  const open = () => {
    socket = new WebSocket(address(path))
    socket.onopen = () => { wait = 500; show('on'); connection.onopen?.() }
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      if (message.type === 'snapshot') {
        if (seq !== null && message.seq !== seq) emit('gap', message)
        seq = message.seq
      }
      if (message.type === 'event') {
        if (seq !== null && message.event.seq > seq + 1 && !path.startsWith('containers/')) emit('gap', message)
        seq = message.event.seq
      }
      emit(message.type, message)
    }
    socket.onclose = ({ code }) => {
      show('off')
      if (code === 4401) { location.reload(); return }
      if (FINAL.has(code)) return
      setTimeout(open, wait * (0.7 + Math.random() * 0.6))
      wait = Math.min(wait * 2, LONGEST_MS)
    }
  }
  open()
  return connection
}
