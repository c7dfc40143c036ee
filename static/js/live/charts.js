// A container's charts: the last 15 minutes at once, then each second.
import uPlot from 'uplot'
import { live, on } from 'slipway/socket'
import { rate, size, vcpu } from 'slipway/format'

const SPAN_S = 900
// Places in a row of figures, as the agent writes them.
const ROW = { cpu: 0, memory: 1, working_set: 2, rx: 3, tx: 4, read: 5, write: 6, pids: 7 }
const KINDS = {
  cpu: { columns: ['cpu'], show: value => `${vcpu(value)} vCPU`, scale: 1 },
  memory: { columns: ['memory'], show: size },
  network: { columns: ['rx', 'tx'], show: rate },
  block: { columns: ['read', 'write'], show: rate },
  pids: { columns: ['pids'], show: value => value === null || value === undefined ? '–' : String(Math.round(value)) }
}

const clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: '2-digit', minute: '2-digit', hour12: false })
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

class Chart {
  constructor (section, sync) {
    this.kind = KINDS[section.dataset.chart]
    this.now = section.querySelector('[data-now]')
    this.holder = section.querySelector('[data-plot]')
    this.labels = (section.dataset.labels ?? '').split(',')
    this.title = section.querySelector('h2').firstChild.textContent.trim()
    this.sync = sync
    this.build()
    new ResizeObserver(() => this.plot.setSize(this.box())).observe(this.holder)
  }

  box () { return { width: Math.max(120, this.holder.clientWidth), height: this.holder.clientHeight } }

  build () {
    const axis = { stroke: colour('--sl-soft'), grid: { stroke: colour('--chart-grid'), width: 1 }, ticks: { show: false } }
    this.plot?.destroy()
    this.plot = new uPlot({
      ...this.box(),
      cursor: { sync: { key: this.sync }, drag: { x: false, y: false } },
      scales: { x: { range: (_plot, _low, high) => [(high || Date.now() / 1000) - SPAN_S, high || Date.now() / 1000] }, y: { range: (_plot, _low, high) => [0, Math.max(high * 1.15, 0.01)] } },
      axes: [{ ...axis, values: (_plot, ticks) => ticks.map(tick => clock.format(new Date(tick * 1000))) }, { ...axis, size: 74, values: (_plot, ticks) => ticks.map(this.kind.show) }],
      series: [{}, ...this.kind.columns.map((_name, index) => ({ stroke: colour(`--chart-${index + 1}`), width: 1.6, fill: index ? undefined : `${colour('--chart-1')}22`, points: { show: false }, spanGaps: false }))],
      hooks: { setCursor: [plot => this.read(plot.cursor.idx)] }
    }, [[], ...this.kind.columns.map(() => [])], this.holder)
  }

  read (index) {
    const columns = this.plot.data.slice(1)
    const at = index ?? columns[0].length - 1
    const text = columns.map((column, number) => `${this.labels[number] ? this.labels[number] + ' ' : ''}${this.kind.show(column[at])}`).join('   ')
    this.now.textContent = text
    this.holder.setAttribute('role', 'img')
    this.holder.setAttribute('aria-label', `${this.title}: ${text}`)
  }

  draw (table) {
    this.plot.setData([table.t, ...this.kind.columns.map(name => table[name])])
    if (this.plot.cursor.idx === null || this.plot.cursor.idx === undefined) this.read(null)
  }
}

export function start (root) {
  const id = root.dataset.charts
  const table = { t: [], ...Object.fromEntries(Object.keys(ROW).map(name => [name, []])) }
  const charts = [...root.querySelectorAll('[data-chart]')].map(section => new Chart(section, id))
  const draw = () => { for (const chart of charts) chart.draw(table) }

  on('history', message => {
    for (const name of Object.keys(table)) table[name] = [...(message.samples[name] ?? [])]
    table.t = table.t.map(ms => ms / 1000)
    draw()
  })
  on('metrics', message => {
    const row = message.c[id]
    if (!row) return
    const at = message.t / 1000
    if (at <= table.t.at(-1)) return
    table.t.push(at)
    for (const [name, place] of Object.entries(ROW)) table[name].push(row[place])
    while (table.t[0] < at - SPAN_S) for (const name of Object.keys(table)) table[name].shift()
    draw()
  })
  new MutationObserver(() => { for (const chart of charts) chart.build(); draw() }).observe(document.documentElement, { attributeFilter: ['data-bs-theme'] })
  live(`containers/${id}`)
}
