// Small figures in lists: the last minute of each row on screen, drawn in one pass a frame.
import { live, on } from 'slipway/socket'
import { size, vcpu } from 'slipway/format'

const POINTS = 60
const CPU = 0
const MEMORY = 1
const history = new Map()
let queued = false

function draw () {
  queued = false
  const colour = getComputedStyle(document.documentElement).getPropertyValue('--chart-1')
  for (const canvas of document.querySelectorAll('canvas[data-spark]')) {
    const rows = history.get(canvas.dataset.container)
    const box = canvas.getBoundingClientRect()
    if (!rows || box.bottom < 0 || box.top > innerHeight || box.width === 0) continue
    const values = rows[canvas.dataset.spark]
    const context = canvas.getContext('2d')
    const { width, height } = canvas
    const top = Math.max(...values, canvas.dataset.spark === 'cpu' ? 0.02 : 1)
    context.clearRect(0, 0, width, height)
    context.strokeStyle = colour
    context.lineWidth = 1.5
    context.beginPath()
    values.forEach((value, index) => context.lineTo(width - (values.length - 1 - index) * width / (POINTS - 1), height - 2 - (height - 4) * value / top))
    context.stroke()
  }
}

function take (id, row) {
  if (!history.has(id)) history.set(id, { cpu: [], memory: [] })
  const rows = history.get(id)
  for (const [name, value] of [['cpu', row[CPU]], ['memory', row[MEMORY]]]) {
    rows[name].push(value ?? 0)
    if (rows[name].length > POINTS) rows[name].shift()
  }
  for (const cell of document.querySelectorAll(`[data-cpu="${id}"]`)) cell.textContent = `${vcpu(row[CPU])} vCPU`
  for (const cell of document.querySelectorAll(`[data-memory="${id}"]`)) cell.textContent = size(row[MEMORY])
}

export function start () {
  on('metrics', message => {
    for (const [id, row] of Object.entries(message.c)) take(id, row)
    if (!queued) { queued = true; requestAnimationFrame(draw) }
  })
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
