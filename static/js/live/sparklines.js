// Small figures in lists: the last minute of each row on screen, drawn in one pass a frame.
import { live, on } from 'slipway/socket'
import { size, vcpu } from 'slipway/format'

const POINTS = 60
const CPU = 0
const MEMORY = 1
const history = new Map()
let cells = new Map()
const onScreen = new Set()
// Only what is on screen is written and drawn: a list of a thousand costs as much as what one sees of it.
const seen = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) { onScreen.add(target); show(target) } else onScreen.delete(target)
  }
}, { rootMargin: '100px' })
let colour = ''
let queued = false

// Which rows the page has now; the server sends figures for these alone.
function look (connection) {
  cells = new Map()
  for (const cell of document.querySelectorAll('.live')) {
    const id = cell.querySelector('[data-cpu]')?.dataset.cpu ?? cell.querySelector('[data-memory]')?.dataset.memory
    if (!id) continue
    if ((cell.closest('[data-row]')?.dataset.state ?? 'running') !== 'running') history.delete(id) // what has ended uses nothing
    if (!cells.has(id)) cells.set(id, [])
    cells.get(id).push(cell)
    cell.dataset.live = id
    seen.observe(cell)
  }
  for (const cell of onScreen) if (!cell.isConnected) { seen.unobserve(cell); onScreen.delete(cell) }
  for (const id of history.keys()) if (!cells.has(id)) history.delete(id)
  connection.send({ watch: [...cells.keys()] })
}

function draw () {
  queued = false
  colour = getComputedStyle(document.documentElement).getPropertyValue('--chart-1')
  for (const cell of onScreen) show(cell)
}

function show (cell) {
  const rows = history.get(cell.dataset.live)
  if (!rows) return
  const write = (name, text) => { const place = cell.querySelector(`[data-${name}]`); if (place && place.textContent !== text) place.textContent = text }
  write('cpu', `${vcpu(rows.last[CPU])} vCPU`)
  write('memory', size(rows.last[MEMORY]))
  for (const canvas of cell.querySelectorAll('canvas')) paint(canvas)
}

function paint (canvas) {
  const values = history.get(canvas.dataset.container)?.[canvas.dataset.spark]
  if (!values) return
  const context = canvas.getContext('2d')
  const scale = devicePixelRatio
  const [width, height] = [canvas.clientWidth, canvas.clientHeight]
  if (!width) return // not shown on this screen
  if (canvas.width !== width * scale) {
    canvas.style.width = `${width}px`
    canvas.style.height = `${height}px`
    canvas.width = width * scale
    canvas.height = height * scale
  }
  context.setTransform(scale, 0, 0, scale, 0, 0)
  const top = Math.max(...values, canvas.dataset.spark === 'cpu' ? 0.02 : 1)
  context.clearRect(0, 0, width, height)
  context.strokeStyle = colour
  context.lineWidth = 1.5
  context.beginPath()
  values.forEach((value, index) => context.lineTo(width - (values.length - 1 - index) * width / (POINTS - 1), height - 2 - (height - 4) * value / top))
  context.stroke()
}

function take (id, row) {
  if (!cells.has(id)) return
  if (!history.has(id)) history.set(id, { cpu: [], memory: [] })
  const rows = history.get(id)
  rows.last = row
  for (const [name, value] of [['cpu', row[CPU]], ['memory', row[MEMORY]]]) {
    rows[name].push(value ?? 0)
    if (rows[name].length > POINTS) rows[name].shift()
  }
}

export function start (connection) {
  on('metrics', message => {
    for (const [id, row] of Object.entries(message.c)) take(id, row)
    if (!queued) { queued = true; requestAnimationFrame(draw) }
  })
  const again = () => look(connection)
  connection.onopen = again
  document.addEventListener('htmx:afterSettle', again)
  document.addEventListener('slipway-rows', again)
  document.addEventListener('slipway-part', again)
  again()
}

export function node () {
  const put = (name, text) => { for (const cell of document.querySelectorAll(`[data-node="${name}"]`)) cell.textContent = text }
  const bar = (name, part) => { for (const span of document.querySelectorAll(`[data-node-bar="${name}"]`)) span.style.width = `${Math.min(100, part * 100)}%` }
  on('node', figures => {
    put('cpu', `${vcpu(figures.cpu)} / ${figures.cpus}`)
    put('mem', `${size(figures.mem)} / ${size(figures.mem_total)}`)
    put('disk', `${size(figures.disk)} / ${size(figures.disk_total)}`)
    put('load', figures.load.join('  '))
    bar('cpu', figures.cpu / figures.cpus)
    bar('mem', figures.mem / figures.mem_total)
    bar('disk', figures.disk / figures.disk_total)
  })
  live('node')
}
