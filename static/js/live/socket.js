// Live connections: one page, a few sockets, each back by itself after a break, and a snapshot where something was missed.
const handlers = new Map()

export function on (type, handler) {
  if (!handlers.has(type)) handlers.set(type, [])
  handlers.get(type).push(handler)
}

const emit = (type, message) => { for (const handler of handlers.get(type) ?? []) handler(message) }
export const address = path => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws/${path}/`

// The server says something every ten seconds: a connection that is silent for longer is dead, whatever the browser thinks of it.
const SILENT_MS = 25000
const LOOK_MS = 5000
const LONGEST_MS = 15000
const LATE_MS = 1500
const SHOW_AFTER_MS = 1500
// Codes that no new try would change: not signed in, not allowed, not there.
const FINAL = new Set([4401, 4403, 4404])

const connections = []
const badge = document.querySelector('[data-connection]')
const banner = document.querySelector('[data-offline]')
let shown

// The page is live when all of its connections are; a break of a moment is not worth a word.
function show () {
  const live = connections.every(one => one.open)
  if (badge) {
    badge.dataset.state = live ? 'on' : 'off'
    badge.textContent = live ? badge.dataset.on : badge.dataset.off
  }
  clearTimeout(shown)
  if (!banner) return
  if (live) banner.hidden = true
  else shown = setTimeout(() => { banner.hidden = false }, SHOW_AFTER_MS)
}

class Connection {
  constructor (path, seq) {
    this.path = path
    this.wait = 500
    this.seq = seq
    this.open = false
    this.heard = 0
    this.opened = 0
    this.onopen = null
    connections.push(this)
    this.connect()
  }

  connect () {
    clearTimeout(this.timer)
    const socket = this.socket = new WebSocket(address(this.path))
    this.heard = Date.now()
    socket.onopen = () => { this.open = true; this.wait = 500; this.heard = Date.now(); show(); this.onopen?.() }
    socket.onmessage = ({ data }) => { this.heard = Date.now(); this.take(JSON.parse(data)) }
    socket.onclose = ({ code }) => this.lost(code)
  }

  send (message) { if (this.open) this.socket.send(JSON.stringify(message)) }

  take (message) {
    this.opened++
    if (message.type === 'snapshot') this.reach(message.seq, this.seq !== null && message.seq !== this.seq)
    if (message.type === 'event') this.reach(message.event.seq, this.counts && this.seq !== null && message.event.seq > this.seq + 1)
    if (message.type === 'pulse' && this.counts && message.seq > this.seq) setTimeout(() => this.reach(message.seq, message.seq > this.seq), LATE_MS)
    emit(message.type, message)
  }

  // Only a tenant's page hears every event, so only there a missing number means something.
  get counts () { return this.path.startsWith('tenant/') }

  reach (seq, gap) {
    if (this.seq === null || seq > this.seq) this.seq = seq
    if (gap) emit('gap', { seq })
  }

  lost (code) {
    this.socket.onclose = this.socket.onmessage = this.socket.onopen = null
    this.socket.close()
    this.open = false
    show()
    if (FINAL.has(code)) {
      if (this.opened) location.reload() // what was open is no longer theirs: the server says what is
      return
    }
    this.timer = setTimeout(() => this.connect(), this.wait * (0.7 + Math.random() * 0.6))
    this.wait = Math.min(this.wait * 2, LONGEST_MS)
  }

  // After a sleep, or when the network is back, nobody waits for the next try.
  check (silent) {
    if (this.open && Date.now() - this.heard > silent) this.lost(0)
    if (!this.open && this.socket.readyState !== WebSocket.CONNECTING) { this.wait = 500; this.connect() }
  }
}

setInterval(() => { for (const one of connections) if (one.open) one.check(SILENT_MS) }, LOOK_MS)
const again = () => { for (const one of connections) one.check(SILENT_MS / 2) }
addEventListener('online', again)
addEventListener('pageshow', event => { if (event.persisted) again() })
document.addEventListener('visibilitychange', () => { if (!document.hidden) again() })

// ``seq``: of the last event that the page knows; what came between the page and its connection is a gap like another.
export const UNKNOWN = -1
export const live = (path, seq = null) => new Connection(path, seq)
