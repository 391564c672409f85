// Package e2e holds the tests of the whole path: the real programs, a real
// repository served over HTTP, kernel mounts, real registries, and containers
// started with runc. Scripts in testdata/script read as a user's session.
package e2e
