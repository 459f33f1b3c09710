// Passkeys: a button that carries `data-passkey` has the browser's authenticator sign, puts the result into
// a hidden field of its form, and sends the form. Nothing else here decides anything.
(() => {
  'use strict';
  if (!window.PublicKeyCredential) return;

  const bytes = (text) => {
    const plain = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
    return Uint8Array.from(plain, (char) => char.charCodeAt(0));
  };
  const text = (buffer) => {
    const plain = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(plain).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  };

  const ask = async (url, form) => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(url, { method: 'POST', headers, body });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.title + (told.remedy ? ' Next: ' + told.remedy + '.' : ''));
    return told;
  };

  const sign = async (told) => {
    const found = await navigator.credentials.get({
      publicKey: {
        challenge: bytes(told.challenge),
        rpId: told.party,
        userVerification: 'required',
        allowCredentials: told.passkeys.map((id) => ({ type: 'public-key', id: bytes(id) })),
      },
    });
    return {
      id: text(found.rawId),
      authenticator_data: text(found.response.authenticatorData),
      client_data: text(found.response.clientDataJSON),
      signature: text(found.response.signature),
    };
  };

  const create = async (told, form) => {
    const name = (form.elements.name && form.elements.name.value) || told.name;
    const made = await navigator.credentials.create({
      publicKey: {
        challenge: bytes(told.challenge),
        rp: { id: told.party, name: 'Stockade' },
        user: { id: bytes(told.handle), name, displayName: name },
        pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: 'public-key', alg })),
        authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
        excludeCredentials: told.passkeys.map((id) => ({ type: 'public-key', id: bytes(id) })),
        attestation: 'none',
      },
    });
    return {
      id: text(made.rawId),
      clientData: text(made.response.clientDataJSON),
      authenticatorData: text(made.response.getAuthenticatorData()),
      publicKey: text(made.response.getPublicKey()),
      algorithm: made.response.getPublicKeyAlgorithm(),
    };
  };

  const start = async (button) => {
    const form = button.form;
    const said = form.querySelector('[data-said]');
    const makes = button.dataset.passkey === 'create';
    if (makes && form.elements.name && !form.elements.name.reportValidity()) return;
    said.textContent = 'Confirm with your authenticator.';
    button.disabled = true;
    try {
      if (button.dataset.choice) form.elements.passkey_choice.value = button.dataset.choice;
      const told = await ask(button.dataset.url, form);
      const done = makes ? await create(told, form) : await sign(told);
      form.elements.passkey.value = JSON.stringify(done);
      if (form.elements.handle) form.elements.handle.value = told.handle;
      if (told.not_after) form.elements.not_after.value = told.not_after;
      form.submit();
    } catch (error) {
      said.textContent = error.name === 'NotAllowedError'
        ? 'Nothing was confirmed. Try again.' : String(error.message || error);
      button.disabled = false;
    }
  };

  document.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-passkey]');
    if (button) start(button);
  });
  for (const hidden of document.querySelectorAll('[data-with-passkeys]')) hidden.hidden = false;
})();
