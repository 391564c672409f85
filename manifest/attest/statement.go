// Package attest is signed statements about trees: that a tree, named by its
// id, is what a source, named by its digests, comes to. Whoever has the source
// can find that out and sign it, so that a tree may count only once several
// have, on machines of their own.
//
// A statement is an in-toto Statement v1 in a DSSE envelope, whose one subject
// is the tree's listing: its SHA-256 is the tree id. What one signer has to say
// of a tree under its several names is a [Bundle], an envelope per line. Keys
// are Ed25519 or RSA.
//
// Nothing of an envelope counts before its signature has been checked, and
// everything is bounded first (docs/design/attestations.md).
package attest

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

const (
	// StatementType is in-toto's.
	StatementType = "https://in-toto.io/Statement/v1"
	// PayloadType is how DSSE knows in-toto's statements.
	PayloadType = "application/vnd.in-toto+json"
	// PredicateType is ours.
	PredicateType = "https://github.com/rootstock-cf/rootstock/attestation/tree/v1"

	// ListingFormat is the version of the listing that tree ids are of
	// (docs/design/tree.md).
	ListingFormat = 1
)

var (
	// ErrMalformed reports an envelope or statement that is not what this
	// package writes.
	ErrMalformed = errors.New("malformed statement")
	// ErrSignature reports an envelope that the key did not sign as it is.
	ErrSignature = errors.New("bad signature")
	// ErrOther reports a statement about another tree or another name.
	ErrOther = errors.New("a statement about something else")
)

// Source is what a tree was derived from.
type Source struct {
	// Kind is rootfs, image, buildpack or dir.
	Kind string `json:"kind"`
	// Name is how it is found: an image as it is spelled, or a file's name
	// without its directory.
	Name string `json:"name"`
	// Digest is sha256:<hex>: an image's manifest, a file as it lies there, a
	// directory as a tar.
	Digest string `json:"digest"`
	// ConfigDigest and Platform (OS/ARCH[/VARIANT]) are an image's.
	ConfigDigest string `json:"configDigest,omitempty"`
	Platform     string `json:"platform,omitempty"`
	// DiffIDs are sha256:<hex> of the uncompressed layers, lowest first.
	DiffIDs []string `json:"diffIds"`
}

// Statement says that the tree published as Name is what Source comes to.
type Statement struct {
	Name    string           // KIND/NAME@VERSION
	Tree    object.ContentID // tree id
	Source  Source
	Derived time.Time // to the second
	Signer  string    // id of the key, [Key.ID]
}

// About returns an error that wraps [ErrOther] unless s is about the tree
// published under the name.
func (s *Statement) About(name string, tree object.ContentID) error {
	if s.Name != name || s.Tree != tree {
		return fmt.Errorf("%w: %s as tree %s", ErrOther, s.Name, s.Tree)
	}
	return nil
}

// statement is the JSON of a Statement.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	Source        Source    `json:"source"`
	ListingFormat int       `json:"listingFormat"`
	Derived       time.Time `json:"derived"`
	Signer        string    `json:"signer"`
}

func (s *Statement) marshal() ([]byte, error) {
	return json.Marshal(statement{
		Type:          StatementType,
		Subject:       []subject{{s.Name, map[string]string{"sha256": s.Tree.String()}}},
		PredicateType: PredicateType,
		Predicate:     predicate{s.Source, ListingFormat, s.Derived.UTC().Truncate(time.Second), s.Signer},
	})
}

// parse reads a payload. Fields it does not know are passed over, as in-toto
// asks of readers.
func parse(payload []byte) (*Statement, error) {
	var j statement
	if err := json.Unmarshal(payload, &j); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case j.Type != StatementType:
		return nil, fmt.Errorf("%w: its type is %q, not %s", ErrMalformed, j.Type, StatementType)
	case j.PredicateType != PredicateType:
		return nil, fmt.Errorf("%w: its predicate is a %q, not a %s", ErrMalformed, j.PredicateType, PredicateType)
	case len(j.Subject) != 1 || j.Subject[0].Name == "":
		return nil, fmt.Errorf("%w: it has %d subjects, want one with a name", ErrMalformed, len(j.Subject))
	case j.Predicate.ListingFormat != ListingFormat:
		return nil, fmt.Errorf("%w: its tree id is of a listing in format %d, trees here of format %d", ErrMalformed, j.Predicate.ListingFormat, ListingFormat)
	}
	id, err := object.ParseContentID(j.Subject[0].Digest["sha256"])
	if err != nil {
		return nil, fmt.Errorf("%w: tree id: %w", ErrMalformed, err)
	}
	return &Statement{
		Name: j.Subject[0].Name, Tree: id, Source: j.Predicate.Source, Derived: j.Predicate.Derived, Signer: j.Predicate.Signer,
	}, nil
}
