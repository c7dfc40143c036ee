// Numbers and times as people read them.
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

export function size (value) {
  if (value === null || value === undefined) return '–'
  let unit = 0
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit++ }
  return `${unit === 0 || value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} ${UNITS[unit]}`
}

export const rate = value => value === null || value === undefined ? '–' : `${size(value)}/s`
export const vcpu = value => value === null || value === undefined ? '–' : value.toFixed(value > 0 && value < 0.1 ? 3 : 2)

const language = document.documentElement.lang
const relative = new Intl.RelativeTimeFormat(language, { numeric: 'auto' })
const exact = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium' })
const STEPS = [['second', 60], ['minute', 60], ['hour', 24], ['day', 30], ['month', 12], ['year', Infinity]]

export function ago (date) {
  let amount = (date - Date.now()) / 1000
  for (const [unit, most] of STEPS) {
    if (Math.abs(Math.round(amount)) < most) return relative.format(Math.round(amount), unit)
    amount /= most
  }
}

// <time data-time>: how long ago on its face, the viewer's own exact time in its title.
export function times (root) {
  for (const element of root.querySelectorAll('time[data-time]')) {
    const date = new Date(element.dateTime)
    const text = ago(date)
    if (element.textContent !== text) element.textContent = text
    element.title = exact.format(date)
  }
}
