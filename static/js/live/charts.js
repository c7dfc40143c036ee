// A container's charts: the last 15 minutes at once, then each second; the cursor reads all of them at one moment.
import uPlot from 'uplot'
import { live, on } from 'slipway/socket'
import { rate, size, vcpu } from 'slipway/format'
import { GAP_S, Series, SPAN_S } from 'slipway/series'

const whole = value => value === null || value === undefined ? '–' : String(Math.round(value))
// Steps of an axis: bytes in powers of two, so that a tick is a round number of KiB or MiB; processes are whole.
const BINARY = Array.from({ length: 45 }, (_none, power) => 2 ** power)
const WHOLE = Array.from({ length: 24 }, (_none, place) => [1, 2, 5][place % 3] * 10 ** Math.floor(place / 3))
const KINDS = {
  cpu: {
    columns: ['cpu'],
    show: value => value === null || value === undefined ? '–' : `${vcpu(value)} vCPU`,
    tick: value => String(Number(value.toPrecision(3))),
    least: 0.01
  },
  memory: { columns: ['memory'], show: size, tick: size, incrs: BINARY, least: 2 ** 20 },
  network: { columns: ['rx', 'tx'], show: rate, tick: rate, incrs: BINARY, least: 1024 },
  block: { columns: ['read', 'write'], show: rate, tick: rate, incrs: BINARY, least: 1024 },
  pids: { columns: ['pids'], show: whole, tick: whole, incrs: WHOLE, least: 4 }
}
const NEAR = 0.5
const REDRAW_MS = 5000
// The node's clock, as far as its messages tell: a viewer's own may be off.
let skew = 0
const now = () => (Date.now() + skew) / 1000

const language = document.documentElement.lang
const clock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', hour12: false })
const moment = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

class Chart {
  constructor (section, sync) {
    this.name = section.dataset.chart
    this.kind = KINDS[this.name]
    this.section = section
    this.now = section.querySelector('[data-now]')
    this.holder = section.querySelector('[data-plot]')
    this.labels = (section.dataset.labels ?? '').split(',')
    this.title = section.querySelector('h2').firstChild.textContent.trim()
    this.sync = sync
    this.build()
    new ResizeObserver(() => this.plot.setSize(this.box())).observe(this.holder)
  }

  // It changes while the container runs, and its place on the page is drawn anew then.
  get limit () { return Number(this.section.querySelector('[data-limit]')?.dataset.limit) / (this.name === 'cpu' ? 1000 : 1) || null }

  // A chart that is not shown yet has no size: it is drawn at a small one until it has.
  box () { return { width: Math.max(120, this.holder.clientWidth), height: Math.max(120, this.holder.clientHeight) } }

  // Up to the limit once the figures come near it; memory is always seen against it.
  top (high) {
    const most = Math.max((high || 0) * 1.15, this.kind.least)
    return this.limit && (this.name === 'memory' || high > this.limit * NEAR) ? Math.max(most, this.limit * 1.08) : most
  }

  build () {
    const axis = { stroke: colour('--sl-soft'), grid: { stroke: colour('--chart-grid'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' }
    this.plot?.destroy()
    this.plot = new uPlot({
      ...this.box(),
      padding: [8, 6, 0, 0],
      cursor: { sync: { key: this.sync }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: { x: { range: () => [now() - SPAN_S, now()] }, y: { range: (_plot, _low, high) => [0, this.top(high)] } },
      axes: [{ ...axis, size: 28, values: (_plot, ticks) => ticks.map(tick => clock.format(new Date(tick * 1000))) },
        { ...axis, size: 76, space: 34, ...(this.kind.incrs ? { incrs: this.kind.incrs } : {}), values: (_plot, ticks) => ticks.map(this.kind.tick) }],
      series: [{}, ...this.kind.columns.map((_name, index) => ({
        stroke: colour(`--chart-${index + 1}`),
        width: 1.6,
        fill: `${colour(`--chart-${index + 1}`)}1f`,
        points: { show: false },
        spanGaps: false
      }))],
      hooks: { setCursor: [plot => this.read(plot.cursor.idx)], draw: [plot => this.line(plot)] }
    }, [[], ...this.kind.columns.map(() => [])], this.holder)
  }

  // The limit, where it is in sight.
  line (plot) {
    if (!this.limit || this.limit > plot.scales.y.max) return
    const { left, width } = plot.bbox
    const at = Math.round(plot.valToPos(this.limit, 'y', true))
    const context = plot.ctx
    context.save()
    context.strokeStyle = colour('--sl-red')
    context.setLineDash([6, 5])
    context.beginPath()
    context.moveTo(left, at)
    context.lineTo(left + width, at)
    context.stroke()
    context.restore()
  }

  // At the cursor, with its time, or what is newest.  Where nothing was measured near the cursor, nothing is said.
  read (index) {
    const [times, ...columns] = this.plot.data
    const pointed = index === null || index === undefined ? null : this.plot.posToVal(this.plot.cursor.left, 'x')
    const newest = now() - times.at(-1) > GAP_S ? -1 : times.length - 1 // of what has ended, nothing is so now
    const at = pointed === null ? newest : Math.abs(times[index] - pointed) > GAP_S ? -1 : index
    this.now.replaceChildren()
    if (pointed !== null) this.word('time', moment.format(new Date(pointed * 1000)))
    columns.forEach((column, number) => {
      const label = this.labels[number] ? this.labels[number] + ' ' : ''
      this.word(`key key-${number + 1}`, `${label}${this.kind.show(column[at])}`)
    })
    this.holder.setAttribute('role', 'img')
    this.holder.setAttribute('aria-label', `${this.title}: ${this.now.textContent}`)
  }

  word (css, text) {
    const span = document.createElement('span')
    span.className = css
    span.textContent = text
    this.now.append(span, ' ')
  }

  draw (series) {
    this.plot.setData([series.t, ...this.kind.columns.map(name => series[name])])
    const index = this.plot.cursor.idx
    this.read(this.plot.cursor.left >= 0 ? index : null)
  }
}

export function start (root) {
  const id = root.dataset.charts
  const series = new Series()
  const charts = [...root.querySelectorAll('[data-chart]')].map(section => new Chart(section, id))
  const waiting = root.querySelector('[data-charts-empty]')
  const draw = () => {
    waiting.hidden = !series.empty
    if (series.empty) {
      const { state } = document.getElementById('status').dataset
      waiting.textContent = ['running', 'pending'].includes(state) ? waiting.dataset.soon : waiting.dataset.none
    }
    root.classList.toggle('is-empty', series.empty)
    for (const chart of charts) chart.draw(series)
  }

  document.addEventListener('slipway-part', draw)
  on('history', message => { series.load(message.samples); draw() })
  on('metrics', message => {
    const row = message.c[id]
    if (!row) return
    skew = message.t - Date.now()
    if (series.push(message.t / 1000, row) && !document.hidden) draw()
  })
  document.addEventListener('visibilitychange', () => { if (!document.hidden) draw() })
  setInterval(() => { if (!document.hidden) draw() }, REDRAW_MS) // time goes on for what has stopped
  new MutationObserver(() => { for (const chart of charts) chart.build(); draw() }).observe(document.documentElement, { attributeFilter: ['data-bs-theme'] })
  live(`containers/${id}`)
  draw()
}
