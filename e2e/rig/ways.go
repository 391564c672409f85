package rig

import "os"

// Environment variables that force how containers get their trees, where a test
// does not ask for a way of its own. Without them the daemon chooses.
const (
	TierVar = "ROOTSTOCK_TEST_TIER"       // image or tree
	IDsVar  = "ROOTSTOCK_TEST_ID_MAPPING" // kernel or daemon
)

// Ways returns the flags of rootstock-cell mount that force what the
// environment says.
func Ways() (flags []string) {
	if tier := os.Getenv(TierVar); tier != "" {
		flags = append(flags, "--tier", tier)
	}
	if ids := os.Getenv(IDsVar); ids != "" {
		flags = append(flags, "--id-mapping", ids)
	}
	return flags
}
