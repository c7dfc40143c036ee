// Deeds: dangerous ones say what they will do before they do it; they go without leaving the page, and a refusal is read on the spot.
import { refresh } from 'slipway/parts'

const dialog = document.getElementById('confirm')
const notices = document.querySelector('[data-notices]')

export function notice (text, kind = 'error') {
  const line = document.createElement('div')
  line.className = `notice notice-${kind}`
  line.textContent = text
  notices.replaceChildren(line)
  line.scrollIntoView({ block: 'nearest' })
}

function confirmed (deed, form, button) {
  if (!deed.dataset.confirm || deed.dataset.confirmed) { delete deed.dataset.confirmed; return true }
  dialog.querySelector('h2').textContent = dialog.querySelector('[data-confirm-yes]').textContent = deed.dataset.confirmTitle
  dialog.querySelector('[data-confirm-text]').textContent = deed.dataset.confirm
  dialog.returnValue = ''
  dialog.onclose = () => {
    if (dialog.returnValue !== 'yes') return
    if (deed.hasAttribute('data-act')) { send(form, button, deed); return } // also when the page has drawn it anew meanwhile
    deed.dataset.confirmed = '1'
    form.requestSubmit(button)
  }
  dialog.showModal()
  return false
}

async function send (form, button, deed) {
  const row = deed.closest('[data-row]')
  const buttons = [...(row ?? deed.closest('.actions') ?? form).querySelectorAll('button')]
  for (const one of buttons) one.disabled = true
  let said = ''
  try {
    const answer = await fetch(button?.getAttribute('formaction') ?? form.action, {
      method: 'POST',
      body: new FormData(form),
      headers: { 'HX-Request': 'true' }
    })
    if (answer.redirected || answer.status === 403 || answer.status === 404) { location.reload(); return }
    if (answer.ok && deed.dataset.leave) { location.assign(deed.dataset.leave); return }
    if (!answer.ok) said = answer.status === 422 ? await answer.text() : document.body.dataset.failed
  } catch { said = document.body.dataset.unreachable }
  if (said) { notice(said); for (const one of buttons) one.disabled = false } else notices.replaceChildren()
  if (row) document.dispatchEvent(new CustomEvent('slipway-acted', { detail: row.dataset.row }))
  refresh()
}

// A deed is a form, or one of the many buttons of one form.
document.addEventListener('submit', event => {
  const form = event.target
  const button = event.submitter
  const deed = button?.hasAttribute('data-act') ? button : form
  if (!confirmed(deed, form, button)) { event.preventDefault(); return }
  if (!deed.hasAttribute('data-act')) return
  event.preventDefault()
  send(form, button, deed)
})
