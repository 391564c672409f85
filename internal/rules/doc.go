// Package rules holds no code: its test reads the module's own imports and
// fails where they break the direction in which data and dependencies flow
// (docs/design/README.md).
package rules
