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

// Dangerous forms say what they will do before they do it; actions go without leaving the page.
const dialog = document.getElementById('confirm')
document.addEventListener('submit', async event => {
  const form = event.target
  if (form.dataset.confirm && !form.dataset.confirmed) {
    event.preventDefault()
    dialog.querySelector('h2').textContent = dialog.querySelector('[data-confirm-yes]').textContent = form.dataset.confirmTitle
    dialog.querySelector('[data-confirm-text]').textContent = form.dataset.confirm
    dialog.showModal()
    dialog.onclose = () => { if (dialog.returnValue === 'yes') { form.dataset.confirmed = '1'; form.requestSubmit() } dialog.returnValue = '' }
    return
  }
  if (!form.hasAttribute('data-act')) return
  event.preventDefault()
  delete form.dataset.confirmed
  for (const button of form.querySelectorAll('button')) button.disabled = true
  const answer = await fetch(form.action, { method: 'POST', body: new FormData(form), headers: { 'HX-Request': 'true' } })
  if (!answer.ok) { location.reload(); return }
  if (form.dataset.leave) { location.assign(form.dataset.leave); return }
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
    const list = document.querySelector('[data-live-list]')
    if (list) part(list.dataset.liveList + location.search.replace(/^\?$/, '') + searched(), list)
    const status = document.querySelector('[data-live-status]')
    if (status) part(status.dataset.liveStatus, status)
    const events = document.querySelector('[data-live-events]')
    if (events) part(events.dataset.liveEvents, events)
  }, 150)
}

function searched () {
  const search = document.getElementById('list-search')
  if (!search) return ''
  return '?' + new URLSearchParams({ search: search.value, state: document.getElementById('list-state').value })
}

on('event', message => {
  const event = message.event
  const row = document.querySelector(`[data-row="${event.kind === 'operation' ? event.container : event.id}"]`)
  if (row && event.state !== 'removed') {
    if (event.kind === 'container' || ['queued', 'succeeded', 'failed'].includes(event.state)) htmx.ajax('GET', `/containers/${row.dataset.row}/row/`, { target: row, swap: 'outerHTML' })
    return
  }
  refresh()
})
on('gap', refresh)

let tabState = document.querySelector('#status')?.dataset.state
document.addEventListener('htmx:afterSwap', event => {
  times(event.target)
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
if (document.querySelector('[data-spark], [data-cpu]') || document.querySelector('[data-live-list]')) import('slipway/sparklines').then(module => module.start())
if (page.dataset.tenant && !charts) live(`tenant/${page.dataset.tenant}`)
if (document.querySelector('[data-node]')) import('slipway/sparklines').then(module => module.node())
