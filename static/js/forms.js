// Forms: rows that come and go, what submits itself, and buttons that are pressed once.
function rows (section) {
  const here = section.querySelector('[data-rows-here]')
  section.addEventListener('click', event => {
    if (event.target.closest('[data-row-add]')) {
      here.append(section.querySelector('template').content.cloneNode(true))
      here.lastElementChild.querySelector('input').focus()
    }
    const removed = event.target.closest('[data-row-remove]')?.closest('.row-edit')
    if (!removed) return
    const next = removed.nextElementSibling ?? removed.previousElementSibling
    removed.remove();
    (next?.querySelector('[data-row-remove]') ?? section.querySelector('[data-row-add]')).focus()
    here.dispatchEvent(new Event('change', { bubbles: true })) // what was wrong with it is no longer
  })
}

function once (form) {
  const buttons = form.querySelectorAll('[data-once-button]')
  const progress = form.querySelector('[data-once-progress]')
  const set = sent => {
    for (const button of buttons) button.disabled = sent
    if (progress) progress.hidden = !sent
  }
  form.addEventListener('submit', ({ submitter }) => { if (!submitter || submitter.hasAttribute('data-once-button')) set(true) })
  addEventListener('pageshow', () => set(false)) // back from the next page
}

// A request that is larger than the site accepts is refused before there is a page for it: such a file is not sent.
function sized (input) {
  const most = Number(input.dataset.most)
  const box = document.getElementById(input.dataset.problem)
  const large = () => [...input.files].some(file => file.size > most)
  const tell = () => {
    input.toggleAttribute('aria-invalid', false)
    box.replaceChildren()
    if (!large()) return
    input.setAttribute('aria-invalid', 'true')
    const line = document.createElement('p')
    line.className = 'problem'
    line.role = 'alert'
    line.textContent = input.dataset.tooLarge
    box.append(line)
  }
  input.addEventListener('change', tell)
  input.form.addEventListener('submit', event => {
    if (!large()) return
    event.preventDefault()
    event.stopImmediatePropagation()
    tell()
    input.focus()
  })
}

export function start (root) {
  for (const input of root.querySelectorAll('input[type=file][data-most]')) sized(input)
  for (const form of root.querySelectorAll('form[data-submit-on-change]')) form.addEventListener('change', () => form.requestSubmit())
  for (const section of root.querySelectorAll('[data-rows]')) rows(section)
  for (const form of root.querySelectorAll('form[data-once]')) once(form)
  // "As the system" may be dark already: the switch always changes what is seen.
  for (const form of root.querySelectorAll('form[data-theme-form]')) {
    form.addEventListener('submit', () => { form.elements.theme.value = document.documentElement.dataset.bsTheme === 'dark' ? 'light' : 'dark' })
  }
  for (const input of root.querySelectorAll('[data-filter]')) filter(input)
  root.querySelector('.notice-error[role=alert]')?.scrollIntoView({ block: 'nearest' })
  wrong(root)
}

// The first field that is wrong; of several in a row that are told together, the first of their section.
function wrong (root) {
  const field = root.querySelector('[aria-invalid=true]')
  const told = field ? null : root.querySelector('form .problem')
  const first = field ?? told?.closest('section')?.querySelector('.rows :is(input, select), :is(input, select)')
  first?.focus()
  told?.scrollIntoView({ block: 'center' })
}

function filter (input) {
  const none = document.querySelector(input.dataset.filterNone)
  input.addEventListener('input', () => {
    const wanted = input.value.trim().toLowerCase()
    const all = [...document.querySelectorAll(input.dataset.filter)].filter(one => one.dataset.search)
    for (const one of all) one.hidden = !one.dataset.search.includes(wanted)
    if (none) none.hidden = all.some(one => !one.hidden)
  })
}
