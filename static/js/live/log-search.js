// Searching a log: every hit is marked, Enter and Shift+Enter go from one to the next, and the lines without can be left out.
import { plain, spans } from 'slipway/ansi'

const RECOUNT_MS = 250

export class Finder {
  constructor (section, box, leaveEnd) {
    this.box = box
    this.leaveEnd = leaveEnd
    this.input = section.querySelector('[data-log-search]')
    this.found = section.querySelector('[data-log-found]')
    this.steps = [...section.querySelectorAll('[data-log-step]')]
    this.current = null
    this.wanted = ''
    this.input.addEventListener('input', () => this.search())
    this.input.addEventListener('keydown', event => { if (event.key === 'Enter') { event.preventDefault(); this.step(event.shiftKey ? -1 : 1) } })
    for (const button of this.steps) button.addEventListener('click', () => this.step(Number(button.dataset.logStep)))
    section.querySelector('[data-log-only]').addEventListener('change', event => { box.classList.toggle('only-hits', event.target.checked); this.centre() })
  }

  search () {
    this.wanted = this.input.value.toLowerCase()
    this.current = null
    for (const line of this.box.children) if (line.dataset.raw !== undefined && (this.wanted || line.classList.contains('hit'))) this.show(line)
    this.count()
    if (this.wanted) this.step(-1)
  }

  // The line's text with its colours, or, where it has what is searched for, with the hits.
  show (line) {
    const text = line.querySelector('.text')
    const raw = line.dataset.raw
    const clean = this.wanted ? plain(raw) : ''
    const low = clean.toLowerCase()
    const hit = this.wanted !== '' && low.includes(this.wanted)
    line.classList.toggle('hit', hit)
    if (!hit) { text.replaceChildren(spans(raw)); return }
    const parts = []
    let at = 0
    for (let next = low.indexOf(this.wanted); next >= 0; next = low.indexOf(this.wanted, at)) {
      const mark = document.createElement('mark')
      mark.textContent = clean.slice(next, next + this.wanted.length)
      parts.push(clean.slice(at, next), mark)
      at = next + this.wanted.length
    }
    text.replaceChildren(...parts, clean.slice(at))
  }

  marks () { return [...this.box.querySelectorAll('mark')].filter(mark => mark.offsetParent !== null) }

  // From the current hit, or, at the beginning, from the newest one.
  step (by) {
    const marks = this.marks()
    if (!marks.length) { this.count(marks); return }
    this.leaveEnd()
    const at = this.current?.isConnected ? marks.indexOf(this.current) : by > 0 ? -1 : marks.length
    this.current?.classList.remove('current')
    this.current = marks[(at + by + marks.length) % marks.length]
    this.current.classList.add('current')
    this.centre()
    this.count(marks)
  }

  // Only the log moves, never the page under it.
  centre () {
    if (!this.current?.isConnected) return
    const [mark, box] = [this.current.getBoundingClientRect(), this.box.getBoundingClientRect()]
    this.box.scrollTop += mark.top - box.top - box.height / 2
  }

  recount () { if (this.wanted) this.timer ??= setTimeout(() => { this.timer = null; this.count() }, RECOUNT_MS) }

  count (marks = this.wanted ? this.marks() : []) {
    const at = this.current?.isConnected ? marks.indexOf(this.current) + 1 : 0
    this.found.textContent = this.wanted ? `${at || '–'} / ${marks.length}` : ''
    for (const button of this.steps) button.disabled = marks.length === 0
  }
}
