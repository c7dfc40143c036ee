// A container's log: the tail, then what comes, at most MOST lines on the page, one insertion a frame however fast it comes.
import { address } from 'slipway/socket'
import { plain, spans } from 'slipway/ansi'

const MOST = 10000

export function start (section) {
  const box = section.querySelector('[data-log-lines]')
  const empty = section.querySelector('[data-log-empty]')
  const search = section.querySelector('[data-log-search]')
  const found = section.querySelector('[data-log-found]')
  const follow = section.querySelector('[data-log-follow]')
  let pending = []
  let queued = false
  let following = true
  let open = null

  const fits = text => !search.value || plain(text).toLowerCase().includes(search.value.toLowerCase())

  function mark (line) {
    const text = line.querySelector('.text')
    const raw = line.dataset.raw
    line.classList.toggle('other', !fits(raw))
    text.replaceChildren(spans(raw))
    if (!search.value || !fits(raw)) return
    const clean = plain(raw)
    const wanted = search.value.toLowerCase()
    const parts = []
    let at = 0
    for (let hit = clean.toLowerCase().indexOf(wanted); hit >= 0; hit = clean.toLowerCase().indexOf(wanted, at)) {
      const found = document.createElement('mark')
      found.textContent = clean.slice(hit, hit + wanted.length)
      parts.push(clean.slice(at, hit), found)
      at = hit + wanted.length
    }
    text.replaceChildren(...parts, clean.slice(at))
  }

  function add ([at, stream, text, partial]) {
    if (open && open.dataset.stream === stream) {
      open.dataset.raw += text
      mark(open)
      if (!partial) open = null
      return null
    }
    const line = document.createElement('div')
    line.className = stream
    line.dataset.stream = stream
    line.dataset.raw = text
    const time = document.createElement('time')
    time.dateTime = at
    time.textContent = new Date(at).toLocaleTimeString(document.documentElement.lang, { hour12: false }) + '.' + at.slice(20, 23)
    const body = document.createElement('span')
    body.className = 'text'
    line.append(time, body)
    mark(line)
    open = partial ? line : null
    return line
  }

  function flush () {
    queued = false
    const rows = pending.slice(-MOST)
    pending = []
    const batch = document.createDocumentFragment()
    for (const row of rows) { const line = row instanceof Node ? row : add(row); if (line) batch.append(line) }
    box.append(batch)
    while (box.childElementCount > MOST) box.firstElementChild.remove()
    empty.hidden = box.childElementCount > 0
    if (following) box.scrollTop = box.scrollHeight
    count()
  }

  function later () { if (!queued) { queued = true; requestAnimationFrame(flush) } }
  function count () { found.textContent = search.value ? String(box.querySelectorAll(':scope > div:not(.other)').length) : '' }
  function setFollowing (value) { following = value; follow.setAttribute('aria-pressed', String(value)); if (value) box.scrollTop = box.scrollHeight }

  search.addEventListener('input', () => { for (const line of box.children) if (line.dataset.raw !== undefined) mark(line); count() })
  follow.addEventListener('click', () => setFollowing(!following))
  box.addEventListener('scroll', () => { const end = box.scrollHeight - box.scrollTop - box.clientHeight < 40; if (following && !end && !queued) setFollowing(false) })
  section.querySelector('[data-log-wrap]').addEventListener('change', event => box.classList.toggle('wrap', event.target.checked))
  section.querySelector('[data-log-times]').addEventListener('change', event => box.classList.toggle('times', event.target.checked))

  function note (text) {
    const line = document.createElement('div')
    line.className = 'skipped'
    line.textContent = text
    pending.push(line)
    later()
  }

  let wait = 1000
  function connect (tail) {
    const socket = new WebSocket(address(`containers/${section.dataset.logs}/logs`))
    socket.onopen = () => socket.send(JSON.stringify({ tail, follow: true }))
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      wait = 1000
      if (message.type === 'lines') { pending.push(...message.lines); if (pending.length > 2 * MOST) pending = pending.slice(-MOST); later() }
      if (message.type === 'control' && message.dropped) note(section.dataset.dropped.replace('{n}', message.dropped))
      if (message.type === 'error') note(message.message)
    }
    socket.onclose = ({ code }) => {
      if (code >= 4400) return
      setTimeout(() => { box.replaceChildren(); connect(1000) }, wait)
      wait = Math.min(wait * 2, 20000)
    }
  }
  connect(1000)
}
