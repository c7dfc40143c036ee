// A container's log: the tail, then what comes, at most MOST lines on the page, one insertion a frame however fast it comes.
import { address } from 'slipway/socket'
import { size } from 'slipway/format'
import { Finder } from 'slipway/log-search'

const MOST = 10000
const TAIL = 1000
const LONGEST_MS = 20000

class Log {
  constructor (section) {
    this.section = section
    this.box = section.querySelector('[data-log-lines]')
    this.empty = section.querySelector('[data-log-empty]')
    this.button = section.querySelector('[data-log-follow]')
    this.finder = new Finder(section, this.box, () => this.setFollowing(false))
    this.clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
    this.exact = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: 'medium', timeStyle: 'medium' })
    this.pending = []
    this.queued = false
    this.following = true
    this.away = false
    this.unseen = 0
    this.open = null
    this.last = ''
    this.wait = 1000
    this.controls()
    this.connect()
  }

  controls () {
    this.button.addEventListener('click', () => this.setFollowing(!this.following))
    this.box.addEventListener('scroll', () => {
      const end = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40
      if (!end) this.away = true
      if (this.following && !end && !this.queued) this.setFollowing(false)
      else if (!this.following && end && this.away) this.setFollowing(true)
    })
    const changed = (name, done) => this.section.querySelector(`[data-log-${name}]`).addEventListener('change', done)
    changed('wrap', event => this.box.classList.toggle('wrap', event.target.checked))
    changed('times', event => this.box.classList.toggle('times', event.target.checked))
    changed('stream', event => { this.box.dataset.only = event.target.value; if (this.following) this.toEnd() })
  }

  toEnd () { this.box.scrollTop = this.box.scrollHeight }

  // While it is paused nothing moves under the reader: what comes waits, at most MOST lines of it.
  setFollowing (value) {
    this.away = !value && this.away && !this.following
    this.following = value
    this.button.setAttribute('aria-pressed', String(value))
    if (value) { this.unseen = 0; this.flush() }
    this.label()
  }

  label () {
    const { follow, paused, unseen } = this.button.dataset
    const waiting = () => unseen.replace('{n}', this.unseen.toLocaleString(document.documentElement.lang))
    const text = this.button.querySelector('[data-log-follow-text]')
    text.textContent = this.following ? follow : this.unseen ? waiting() : paused
  }

  // A row of the agent: [at, stream, text, whether the line goes on].  Returns a new line, or null when it belongs to the one before.
  line ([at, stream, text, partial]) {
    if (this.open && this.open.dataset.stream === stream) {
      this.open.dataset.raw += text
      this.finder.show(this.open)
      if (!partial) this.open = null
      return null
    }
    const line = document.createElement('div')
    line.className = stream
    line.dataset.stream = stream
    line.dataset.raw = text
    const date = new Date(at)
    const dated = !Number.isNaN(date.getTime())
    const time = document.createElement('time')
    time.dateTime = at
    if (dated) time.title = this.exact.format(date)
    time.textContent = dated ? `${this.clock.format(date)}.${at.slice(20, 23)}` : '–'
    const body = document.createElement('span')
    body.className = 'text'
    line.append(time, body)
    this.finder.show(line)
    this.open = partial ? line : null
    return line
  }

  flush () {
    this.queued = false
    if (!this.following) { this.label(); return }
    const rows = this.pending.slice(-MOST)
    this.pending = []
    const batch = document.createDocumentFragment()
    for (const row of rows) { const line = row instanceof Node ? row : this.line(row); if (line) batch.append(line) }
    this.box.append(batch)
    const surplus = this.box.childElementCount - MOST
    if (surplus > 0) {
      const range = document.createRange()
      range.setStartBefore(this.box.firstElementChild)
      range.setEndAfter(this.box.children[surplus - 1])
      range.deleteContents()
    }
    this.empty.hidden = this.box.childElementCount > 0
    this.toEnd()
    this.finder.recount()
  }

  take (row) {
    this.pending.push(row)
    if (!this.following) this.unseen++
    if (this.pending.length > 2 * MOST) this.pending = this.pending.slice(-MOST)
    this.later()
  }

  later () { if (!this.queued) { this.queued = true; requestAnimationFrame(() => { this.flush(); this.acknowledge() }) } }

  // Only what the page has shown makes room for more, so that what it shows is never old.
  acknowledge () {
    if (this.taken && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ taken: this.taken }))
    this.taken = 0
  }

  note (text) {
    const line = document.createElement('div')
    line.className = 'skipped'
    line.textContent = text
    this.take(line)
  }

  // After a break the tail comes again: what is here already is left out, and nobody's place in the log is lost.
  lines (rows) {
    for (const row of rows) {
      if (this.resumed && row[0] <= this.resumed) continue
      this.last = row[0]
      this.take(row)
    }
  }

  connect () {
    const socket = new WebSocket(address(`containers/${this.section.dataset.logs}/logs`))
    this.resumed = this.last
    this.socket = socket
    this.taken = 0
    socket.onopen = () => socket.send(JSON.stringify({ tail: TAIL, follow: true, acknowledge: true }))
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      if (message.type === 'open') this.wait = 1000
      if (message.type === 'lines') { this.taken++; this.lines(message.lines); this.later() }
      if (message.type === 'control' && message.dropped) this.note(this.section.dataset.dropped.replace('{n}', size(message.dropped)))
      if (message.type === 'error' && message.message !== this.told) { this.told = message.message; this.note(message.message) }
    }
    socket.onclose = ({ code }) => {
      if (code >= 4400) return
      setTimeout(() => this.connect(), this.wait)
      this.wait = Math.min(this.wait * 2, LONGEST_MS)
    }
  }
}

export const start = section => new Log(section)
