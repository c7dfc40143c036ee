// What every page does: htmx, times, dialogs, rows of forms, and the live parts that the page has.
import htmx from 'htmx'
import { times } from 'slipway/format'
import { live, on } from 'slipway/socket'

const page = document.body

function forms (root) {
  for (const form of root.querySelectorAll('form[data-submit-on-change]')) form.addEventListener('change', () => form.requestSubmit())
  for (const section of root.querySelectorAll('[data-rows]')) rows(section)
  for (const form of root.querySelectorAll('form[data-once]')) {
    form.addEventListener('submit', () => { for (const button of form.querySelectorAll('[data-once-button]')) button.disabled = true })
  }
}

function rows (section) {
  const here = section.querySelector('[data-rows-here]')
  section.addEventListener('click', event => {
    if (event.target.closest('[data-row-add]')) {
      here.append(section.querySelector('template').content.cloneNode(true))
      here.lastElementChild.querySelector('input').focus()
    }
    event.target.closest('[data-row-remove]')?.closest('.row-edit').remove()
  })
}

function notice (sentence) {
  const box = document.createElement('div')
  box.className = 'notice notice-error'
  box.textContent = sentence
  document.querySelector('.notices').replaceChildren(box)
}

// Dangerous deeds say what they will do before they do it; actions go without leaving the page.  A deed is a form, or one of the
// many buttons of one form.
const dialog = document.getElementById('confirm')
document.addEventListener('submit', async event => {
  const form = event.target
  const button = event.submitter
  const deed = button?.hasAttribute('data-act') ? button : form
  if (deed.dataset.confirm && !deed.dataset.confirmed) {
    event.preventDefault()
    dialog.querySelector('h2').textContent = dialog.querySelector('[data-confirm-yes]').textContent = deed.dataset.confirmTitle
    dialog.querySelector('[data-confirm-text]').textContent = deed.dataset.confirm
    dialog.showModal()
    dialog.onclose = () => { if (dialog.returnValue === 'yes') { deed.dataset.confirmed = '1'; form.requestSubmit(button) } dialog.returnValue = '' }
    return
  }
  if (!deed.hasAttribute('data-act')) return
  event.preventDefault()
  delete deed.dataset.confirmed
  const row = deed.closest('[data-row]')
  for (const one of (row ?? form).querySelectorAll('button')) one.disabled = true
  const answer = await fetch(button?.getAttribute('formaction') ?? form.action, { method: 'POST', body: new FormData(form), headers: { 'HX-Request': 'true' } })
  const refused = answer.status === 422
  if (refused) notice(await answer.text())
  else if (!answer.ok) { location.reload(); return }
  if (deed.dataset.leave && !refused) { location.assign(deed.dataset.leave); return }
  if (row) document.dispatchEvent(new CustomEvent('slipway-acted', { detail: row.dataset.row }))
  refresh()
})

document.addEventListener('click', event => {
  const toggle = event.target.closest('[data-toggle="nav"]')
  if (!toggle) return
  toggle.setAttribute('aria-expanded', String(toggle.closest('.bar').classList.toggle('open')))
})

for (const input of document.querySelectorAll('[data-filter]')) {
  input.addEventListener('input', () => {
    const wanted = input.value.toLowerCase()
    for (const one of document.querySelectorAll(input.dataset.filter)) one.hidden = Boolean(one.dataset.search) && !one.dataset.search.includes(wanted)
  })
}

// Parts that an event makes stale are fetched anew; many events in a moment are one fetch.
const part = (url, target) => htmx.ajax('GET', url, { target, swap: 'innerHTML' })
let waiting
function refresh () {
  clearTimeout(waiting)
  waiting = setTimeout(() => {
    const status = document.querySelector('[data-live-status]')
    if (status) part(status.dataset.liveStatus, status)
    const events = document.querySelector('[data-live-events]')
    if (events) part(events.dataset.liveEvents, events)
  }, 150)
}

on('event', refresh)
on('gap', refresh)

let tabState = document.querySelector('#status')?.dataset.state
document.addEventListener('htmx:afterSettle', () => times(document))
document.addEventListener('htmx:afterSwap', () => {
  const state = document.querySelector('#status')?.dataset.state
  if (state && state !== tabState) {
    const before = tabState
    tabState = state
    if (before && (state === 'running' || before === 'running') && document.querySelector('[data-tab="terminal"]')) location.reload()
  }
})

// An open operation that missed its last event (a lost connection) still comes to its end on screen.
setInterval(() => { if (document.querySelector('#status [data-operation-state="running"], #status [data-operation-state="queued"]')) refresh() }, 3000)
setInterval(() => times(document), 15000)

times(document)
forms(document)
const charts = document.querySelector('[data-charts]')
if (charts) import('slipway/charts').then(module => module.start(charts))
const logs = document.querySelector('[data-logs]')
if (logs) import('slipway/logs').then(module => module.start(logs))
const terminals = document.querySelector('[data-terminals]')
if (terminals) import('slipway/terminal').then(module => module.start(terminals))
const list = document.querySelector('[data-live-list]')
if (list) import('slipway/list').then(module => module.start(list))
const tenant = page.dataset.tenant && !charts ? live(`tenant/${page.dataset.tenant}`) : null
if (tenant) import('slipway/sparklines').then(module => module.start(tenant))
if (document.querySelector('[data-node]')) import('slipway/sparklines').then(module => module.node())
