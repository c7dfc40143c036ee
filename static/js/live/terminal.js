// Terminals in a container: several at once, each its own connection; a flood waits in the container, not in the browser.
import { Terminal } from 'xterm'
import { FitAddon } from 'xterm-fit'
import { address } from 'slipway/socket'

const HIGH = 400000
const LOW = 100000
let number = 0

class Session {
  constructor (root, select, close) {
    this.texts = root.dataset
    this.container = root.dataset.terminals
    this.live = true
    this.build(root, select, close)
    this.terminal = new Terminal({
      cursorBlink: true,
      fontSize: 13,
      scrollback: 5000,
      screenReaderMode: false,
      theme: { background: '#0b1219', foreground: '#d5dee7' },
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", monospace'
    })
    this.fit = new FitAddon()
    this.terminal.loadAddon(this.fit)
    this.terminal.open(this.screen)
    this.terminal.attachCustomKeyEventHandler(event => this.key(event))
    new ResizeObserver(() => { if (!this.pane.hidden) this.fit.fit() }).observe(this.screen)
    this.terminal.onData(text => this.typed(text))
    this.terminal.onResize(({ cols, rows }) => this.say({ resize: [cols, rows] }))
    this.connect()
  }

  build (root, select, close) {
    const label = `${++number}`
    this.pane = document.createElement('div')
    this.pane.className = 'terminal-pane'
    this.pane.id = `terminal-${label}`
    this.pane.setAttribute('role', 'tabpanel')
    this.pane.setAttribute('aria-label', `${this.texts.name} ${label}`)
    this.screen = document.createElement('div')
    this.screen.className = 'terminal-screen'
    this.pane.append(this.screen)
    this.tab = button(label, 'tab', () => select(this))
    this.tab.setAttribute('aria-controls', this.pane.id)
    this.shut = button('×', '', () => close(this))
    this.shut.setAttribute('aria-label', `${this.texts.close} ${label}`)
    root.querySelector('[data-terminal-panes]').append(this.pane)
    root.querySelector('[data-terminal-tabs]').append(this.tab)
    root.querySelector('[data-terminal-shuts]').append(this.shut)
  }

  key (event) {
    if (event.type !== 'keydown') return true
    if (!this.live && event.key === 'Enter') { this.again(); return false }
    if (!event.ctrlKey || !event.shiftKey) return true
    if (event.code === 'KeyC') { navigator.clipboard?.writeText(this.terminal.getSelection()); event.preventDefault(); return false }
    if (event.code === 'KeyV') { navigator.clipboard?.readText().then(text => this.terminal.paste(text)); event.preventDefault(); return false }
    if (event.code === 'Escape') { this.tab.focus(); return false }
    return true
  }

  say (message) { if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message)) }

  typed (text) {
    if (!this.live) return
    const bytes = new TextEncoder().encode(text)
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(bytes)
    else this.early.push(bytes)
  }

  connect () {
    this.fit.fit()
    const socket = this.socket = new WebSocket(address(`containers/${this.container}/terminal`))
    socket.binaryType = 'arraybuffer'
    this.early = []
    this.why = ''
    this.unread = 0
    this.paused = false
    this.setLive(true)
    socket.onopen = () => {
      this.say({ columns: this.terminal.cols, rows: this.terminal.rows })
      for (const bytes of this.early.splice(0)) socket.send(bytes)
    }
    socket.onmessage = ({ data }) => { if (typeof data === 'string') this.told(JSON.parse(data)); else this.show(data) }
    socket.onclose = () => this.ended()
  }

  show (data) {
    this.unread += data.byteLength
    if (this.unread > HIGH && !this.paused) { this.paused = true; this.say({ pause: true }) }
    this.terminal.write(new Uint8Array(data), () => {
      this.unread -= data.byteLength
      if (this.paused && this.unread < LOW) { this.paused = false; this.say({ resume: true }) }
    })
  }

  told (message) {
    if (message.type === 'error') this.why = message.message
    if (message.type === 'control' && message.exit !== undefined) this.why = this.texts.ended.replace('{code}', message.exit ?? '–')
  }

  ended () {
    this.setLive(false)
    this.terminal.write(`\r\n\u001b[33m${this.why || this.texts.lost}\u001b[0m \u001b[2m${this.texts.again}\u001b[0m\r\n`)
  }

  setLive (live) {
    this.live = live
    this.terminal.options.cursorBlink = live
    this.tab.classList.toggle('over', !live)
  }

  // In the same screen, so that what was said before the end can be read on.
  again () { if (!this.live) this.connect() }

  leave () {
    this.socket.onclose = null
    this.socket.close()
    this.terminal.dispose()
    for (const part of [this.pane, this.tab, this.shut]) part.remove()
  }
}

function button (text, role, pressed) {
  const made = document.createElement('button')
  made.type = 'button'
  if (role) made.setAttribute('role', role)
  made.textContent = text
  made.addEventListener('click', pressed)
  return made
}

export function start (root) {
  const sessions = []
  const select = chosen => {
    for (const session of sessions) {
      const now = session === chosen
      session.pane.hidden = !now
      session.shut.hidden = !now || sessions.length < 2
      session.tab.setAttribute('aria-selected', String(now))
      session.tab.tabIndex = now ? 0 : -1
    }
    chosen.fit.fit()
    chosen.terminal.focus()
  }
  const close = gone => {
    const at = sessions.indexOf(gone)
    sessions.splice(at, 1)
    gone.leave()
    select(sessions[Math.max(0, at - 1)])
  }
  const open = () => { const session = new Session(root, select, close); sessions.push(session); select(session) }
  root.querySelector('[data-terminal-new]').addEventListener('click', open)
  root.querySelector('[data-terminal-tabs]').addEventListener('keydown', event => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    const at = sessions.findIndex(session => session.tab === document.activeElement)
    if (!by || at < 0) return
    const next = sessions[(at + by + sessions.length) % sessions.length]
    select(next)
    next.tab.focus()
  })
  const begin = () => {
    if (sessions.length || document.querySelector('#status')?.dataset.state !== 'running') return
    root.hidden = false
    document.querySelector('[data-terminals-stopped]').hidden = true
    open()
  }
  document.addEventListener('slipway-part', begin)
  begin()
}
