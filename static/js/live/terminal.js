// Terminals in a container: several at once, each its own connection; a flood waits in the container, not in the browser.
import { Terminal } from 'xterm'
import { FitAddon } from 'xterm-fit'
import { address } from 'slipway/socket'

const HIGH = 400000
const LOW = 100000
let number = 0

class Session {
  constructor (root, select) {
    this.texts = root.dataset
    this.label = `${++number}`
    this.pane = document.createElement('div')
    this.pane.className = 'terminal-pane'
    this.pane.setAttribute('role', 'tabpanel')
    this.tab = document.createElement('button')
    this.tab.type = 'button'
    this.tab.setAttribute('role', 'tab')
    this.tab.textContent = this.label
    this.tab.addEventListener('click', () => select(this))
    root.querySelector('[data-terminal-panes]').append(this.pane)
    root.querySelector('[data-terminal-tabs]').append(this.tab)
    this.terminal = new Terminal({ cursorBlink: true, fontSize: 13, scrollback: 5000, screenReaderMode: false, theme: { background: '#0b1219', foreground: '#d5dee7' }, fontFamily: 'ui-monospace, "DejaVu Sans Mono", monospace' })
    this.fit = new FitAddon()
    this.terminal.loadAddon(this.fit)
    this.terminal.open(this.pane)
    this.terminal.attachCustomKeyEventHandler(event => this.key(event))
    new ResizeObserver(() => { if (!this.pane.hidden) this.fit.fit() }).observe(this.pane)
    this.connect(root.dataset.terminals)
  }

  key (event) {
    if (event.type !== 'keydown' || !event.ctrlKey || !event.shiftKey) return true
    if (event.code === 'KeyC') { navigator.clipboard?.writeText(this.terminal.getSelection()); event.preventDefault(); return false }
    if (event.code === 'KeyV') { navigator.clipboard?.readText().then(text => this.terminal.paste(text)); event.preventDefault(); return false }
    if (event.code === 'Escape') { this.tab.focus(); return false }
    return true
  }

  connect (id) {
    this.fit.fit()
    const socket = new WebSocket(address(`containers/${id}/terminal`))
    socket.binaryType = 'arraybuffer'
    const say = message => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)) }
    let unread = 0
    let paused = false
    const early = []
    const send = bytes => {
      if (socket.readyState === WebSocket.OPEN) socket.send(bytes)
      else if (socket.readyState === WebSocket.CONNECTING) early.push(bytes)
    }
    socket.onopen = () => {
      say({ columns: this.terminal.cols, rows: this.terminal.rows })
      early.splice(0).forEach(send)
    }
    socket.onmessage = ({ data }) => {
      if (typeof data === 'string') { this.told(JSON.parse(data)); return }
      unread += data.byteLength
      if (unread > HIGH && !paused) { paused = true; say({ pause: true }) }
      this.terminal.write(new Uint8Array(data), () => {
        unread -= data.byteLength
        if (paused && unread < LOW) { paused = false; say({ resume: true }) }
      })
    }
    socket.onclose = () => { this.terminal.write(`\r\n\u001b[2m${this.texts.ended} ${this.texts.again}\u001b[0m\r\n`); this.terminal.options.cursorBlink = false }
    const encoder = new TextEncoder()
    this.terminal.onData(text => send(encoder.encode(text)))
    this.terminal.onResize(({ cols, rows }) => say({ resize: [cols, rows] }))
  }

  told (message) {
    if (message.type === 'error') this.terminal.write(`\u001b[31m${message.message}\u001b[0m\r\n`)
  }
}

export function start (root) {
  const sessions = []
  const select = chosen => {
    for (const session of sessions) {
      session.pane.hidden = session !== chosen
      session.tab.setAttribute('aria-selected', String(session === chosen))
    }
    chosen.fit.fit()
    chosen.terminal.focus()
  }
  const open = () => { const session = new Session(root, select); sessions.push(session); select(session) }
  root.querySelector('[data-terminal-new]').addEventListener('click', open)
  open()
}
