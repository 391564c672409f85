package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	// MaxEnvelope bounds an envelope, in bytes: one for an image of 1,024
	// layers has half as many.
	MaxEnvelope = 256 << 10
	// MaxBundle bounds a bundle, in bytes.
	MaxBundle = 1 << 20
)

// envelope is the JSON of DSSE v1.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// signed is what a DSSE signature is over (its "PAE").
func signed(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// Sign returns the envelope of a statement, one line without its end. It sets
// the statement's Signer.
func (s *Signer) Sign(st Statement) ([]byte, error) {
	st.Signer = s.ID
	payload, err := st.marshal()
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	sig, err := s.sign(signed(PayloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	line, err := json.Marshal(envelope{
		PayloadType, base64.StdEncoding.EncodeToString(payload),
		[]signature{{s.ID, base64.StdEncoding.EncodeToString(sig)}},
	})
	if err == nil && len(line) > MaxEnvelope {
		err = fmt.Errorf("%d bytes, more than %d", len(line), MaxEnvelope)
	}
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return line, nil
}

// Open returns the statement in an envelope if key signed it and it says so.
// Its errors wrap [ErrMalformed] or [ErrSignature].
func Open(line []byte, key Key) (*Statement, error) {
	e, payload, err := take(line)
	if err != nil {
		return nil, err
	}
	sig, err := decode(e.Signatures[0].Sig)
	if err != nil {
		return nil, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	if !key.verify(signed(e.PayloadType, payload), sig) {
		return nil, fmt.Errorf("%w: not key %s's; it was changed, or somebody else signed it", ErrSignature, key.ID)
	}
	st, err := parse(payload)
	if err != nil {
		return nil, err
	}
	if st.Signer != key.ID {
		return nil, fmt.Errorf("%w: key %s signed it, and it says that %s did", ErrMalformed, key.ID, st.Signer)
	}
	return st, nil
}

// take takes an envelope apart, and proves nothing.
func take(line []byte) (*envelope, []byte, error) {
	if len(line) > MaxEnvelope {
		return nil, nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(line), MaxEnvelope)
	}
	var e envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, nil, fmt.Errorf("%w: no DSSE envelope: %w", ErrMalformed, err)
	}
	if e.PayloadType != PayloadType {
		return nil, nil, fmt.Errorf("%w: its payload is %q, not %s", ErrMalformed, e.PayloadType, PayloadType)
	}
	if len(e.Signatures) != 1 {
		return nil, nil, fmt.Errorf("%w: %d signatures; each signer has a statement of its own", ErrMalformed, len(e.Signatures))
	}
	payload, err := decode(e.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	return &e, payload, nil
}

// decode takes either alphabet, as DSSE asks of readers.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "-_") {
		return base64.URLEncoding.DecodeString(text)
	}
	return base64.StdEncoding.DecodeString(text)
}

// Bundle is what one signer says of one tree: an envelope per line, each about
// another name.
type Bundle []byte

// Find returns the statement that key signed about a name. An error says why
// there is none; one line that is wrong does not hide another.
func (b Bundle) Find(name string, key Key) (*Statement, error) {
	err := error(nil)
	for line := range bytes.Lines(b) {
		st, bad := Open(bytes.TrimSuffix(line, []byte("\n")), key)
		switch {
		case bad != nil:
			err = bad
		case st.Name == name:
			return st, nil
		case err == nil:
			err = fmt.Errorf("%w: %s", ErrOther, st.Name)
		}
	}
	if err == nil {
		err = fmt.Errorf("%w: it is empty", ErrMalformed)
	}
	return nil, err
}

// With returns b with an envelope of the same key, in the place of what the key
// said of that name. Lines that it did not sign are dropped, and the oldest
// where there is no room.
func (b Bundle) With(line []byte, key Key) (Bundle, error) {
	st, err := Open(line, key)
	if err != nil {
		return nil, err
	}
	var one bytes.Buffer
	if err := json.Compact(&one, line); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	line = one.Bytes()
	var lines [][]byte
	size := len(line) + 1
	for old := range bytes.Lines(b) {
		old = bytes.TrimSuffix(old, []byte("\n"))
		if was, err := Open(old, key); err == nil && was.Name != st.Name {
			lines = append(lines, old)
			size += len(old) + 1
		}
	}
	for size > MaxBundle {
		size -= len(lines[0]) + 1
		lines = lines[1:]
	}
	return append(bytes.Join(append(lines, line), []byte("\n")), '\n'), nil
}
