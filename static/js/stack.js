// Stacked bars of usage or cost; the pointer or the arrow keys read one bar after the other.
import uPlot from 'uplot'

const language = document.documentElement.lang
const exact = new Intl.NumberFormat(language, { maximumFractionDigits: 6 })
const short = new Intl.NumberFormat(language, { maximumSignificantDigits: 3, notation: 'compact' })
// Small costs have long figures: the axis is as wide as its longest.
const width = (_plot, texts) => Math.max(76, 18 + 7.5 * Math.max(0, ...(texts ?? []).map(text => text.length)))
const LONGEST = 14
const shortened = label => label.length > LONGEST ? `${label.slice(0, LONGEST - 1)}…` : label
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

class Stack {
  constructor (root) {
    const { labels, unit, series } = JSON.parse(root.querySelector('script').textContent)
    Object.assign(this, { root, labels, unit, series, chosen: null })
    this.holder = root.querySelector('[data-stack-plot]')
    this.now = root.querySelector('[data-stack-now]')
    this.totals = labels.map((_label, at) => series.reduce((sum, one) => sum + one.values[at], 0))
    this.build()
    new ResizeObserver(() => this.plot.setSize(this.box())).observe(this.holder)
    root.addEventListener('keydown', event => this.key(event))
    this.read(null)
  }

  box () { return { width: Math.max(120, this.holder.clientWidth), height: Math.max(120, this.holder.clientHeight) } }

  // Each series carries those below it; the highest is drawn first, so the others cover it up to their own height.
  sums () {
    const below = this.labels.map(() => 0)
    return this.series.map(one => one.values.map((value, at) => { below[at] += value; return below[at] })).reverse()
  }

  build () {
    this.plot?.destroy()
    const axis = { stroke: colour('--sl-soft'), grid: { stroke: colour('--chart-grid'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' }
    const last = this.labels.length - 1
    const bars = uPlot.paths.bars({ size: [0.78, 64] })
    this.plot = new uPlot({
      ...this.box(),
      padding: [8, 6, 0, 0],
      cursor: { drag: { x: false, y: false }, y: false, points: { show: false } },
      scales: { x: { time: false, range: () => [-0.6, last + 0.6] }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 28,
          incrs: [1, 2, 3, 4, 6, 7, 12, 24, 31, 62, 124, 366],
          space: Math.max(52, 8 + 7 * Math.min(LONGEST, Math.max(...this.labels.map(label => label.length)))),
          values: (_plot, ticks) => ticks.map(at => shortened(this.labels[at] ?? ''))
        },
        { ...axis, size: width, space: 34, values: (_plot, ticks) => ticks.map(value => short.format(value)) }
      ],
      series: [{}, ...this.series.map((_one, number) => ({
        fill: colour(`--chart-${this.series.length - number}`),
        width: 0,
        paths: bars,
        points: { show: false }
      }))],
      hooks: { setCursor: [plot => this.read(plot.cursor.left < 0 ? null : plot.cursor.idx)] }
    }, [this.labels.map((_label, at) => at), ...this.sums()], this.holder)
  }

  read (at) {
    this.chosen = at ?? null
    this.now.replaceChildren()
    if (this.chosen === null) return
    this.word('', `${this.labels[at]}: ${exact.format(this.totals[at])} ${this.unit}`)
    this.series.forEach((one, number) => { if (one.values[at]) this.word(`swatch swatch-${number + 1}`, `${one.label} ${exact.format(one.values[at])}`) })
  }

  word (css, text) {
    const item = document.createElement('span')
    if (css) { const swatch = document.createElement('i'); swatch.className = css; item.append(swatch) }
    item.append(text)
    this.now.append(item, ' ')
  }

  key (event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (!step || event.target !== this.root) return
    event.preventDefault()
    const last = this.labels.length - 1
    const at = this.chosen === null ? (step > 0 ? 0 : last) : Math.min(last, Math.max(0, this.chosen + step))
    this.plot.setCursor({ left: this.plot.valToPos(at, 'x'), top: 1 })
  }
}

export function start (root) {
  const stack = new Stack(root)
  new MutationObserver(() => stack.build()).observe(document.documentElement, { attributeFilter: ['data-bs-theme'] })
}
