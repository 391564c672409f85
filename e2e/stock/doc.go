// Package stock holds tests against CernVM-FS itself: its checker, its
// replication, its client and its publisher work on repositories of ours, and
// ours on theirs. They run where the environment variable STOCK names the
// directory of a build of CernVM-FS 2.12 (see README.md); nothing of it is part
// of this project.
package stock
