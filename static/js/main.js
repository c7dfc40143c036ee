// What every page does, and the live parts that the page has.
import htmx from 'htmx'
import 'slipway/deeds'
import { start as forms } from 'slipway/forms'
import { times } from 'slipway/format'
import { UNKNOWN, live } from 'slipway/socket'

document.addEventListener('click', event => {
  const toggle = event.target.closest('[data-toggle="nav"]')
  if (!toggle) return
  toggle.setAttribute('aria-expanded', String(toggle.closest('.bar').classList.toggle('open')))
})
document.querySelector('.tabs [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' })

htmx.on('htmx:afterSettle', () => times(document))
setInterval(() => times(document), 15000)
times(document)
forms(document)

const MODULES = {
  stack: () => import('slipway/stack'),
  charts: () => import('slipway/charts'),
  logs: () => import('slipway/logs'),
  terminals: () => import('slipway/terminal'),
  'live-list': () => import('slipway/list')
}
const started = Object.entries(MODULES).map(async ([name, load]) => {
  const root = document.querySelector(`[data-${name}]`)
  if (root) (await load()).start(root)
})
const { tenant: whose, seen, seenOf } = document.body.dataset
if (whose) {
  await Promise.all(started.map(one => one.catch(reportError))) // they hear of what came before the connection, too
  const tenant = live(`tenant/${whose}`, whose === seenOf ? Number(seen) : UNKNOWN)
  import('slipway/sparklines').then(module => {
    module.start(tenant)
    if (document.querySelector('[data-node]')) module.node()
  })
}
