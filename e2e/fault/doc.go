// Package fault holds no code: its tests break servers, proxies, names, disks,
// clocks and processes under a mounted cell and check that each fault has the
// outcome that docs/faults.md promises, and is counted.
package fault
