package publisher

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What a variable is called, and what it holds, if it is a secret. Neither is
// proof; names of files that hold one are none.
var (
	secretName  = regexp.MustCompile(`(?i)(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY)(_|$|[0-9])`)
	noSecret    = regexp.MustCompile(`(?i)_(FILE|PATH|DIR|URL)$`)
	secretValue = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY|://[^/@\s:]+:[^/@\s]+@|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20}`)
)

// secretsIn names the variables of an image's configuration that look like
// secrets, since image.json keeps all of it and whoever reads the repository
// reads that. What they hold is told nobody.
func secretsIn(config []byte) (notes []string) {
	var c struct {
		Config struct{ Env []string } `json:"config"`
	}
	if json.Unmarshal(config, &c) != nil {
		return nil // whoever needs the configuration says so
	}
	for _, v := range c.Config.Env {
		name, value, _ := strings.Cut(v, "=")
		if value == "" || !(secretName.MatchString(name) && !noSecret.MatchString(name)) && !secretValue.MatchString(value) {
			continue
		}
		notes = append(notes, fmt.Sprintf("the variable %s looks like a secret, and whoever can read this repository can read it in image.json: such an image belongs into a private repository",
			strconv.Quote(name)))
	}
	return notes
}
