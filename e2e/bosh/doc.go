// Package bosh holds no code: its tests verify the release in bosh/ without a
// Director. They assemble packages as BOSH does and compile them without a
// network, render every job with ruby, apply the ops-files, and then install
// the rendered jobs below /var/vcap of a mount namespace of their own and run
// them: with runc as bpm does, and containers as Garden does.
//
// With a bosh CLI on PATH the release is also made by it, and its manifests are
// compared with ours. BPM_BIN names a real bpm to run the jobs with instead of
// the stand-in.
package bosh
