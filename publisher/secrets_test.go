package publisher_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher"
)

func TestSecretsAreNamed(t *testing.T) {
	for v, secret := range map[string]bool{
		"DB_PASSWORD=hunter2":                              true,
		"password=x":                                       true,
		"AWS_SECRET_ACCESS_KEY=x":                          true,
		"NPM_TOKEN=x":                                      true,
		"STRIPE_API_KEY=x":                                 true,
		"DATABASE=postgres://app:hunter2@db/app":           true,
		"CERT=-----BEGIN RSA PRIVATE KEY-----\nx":          true,
		"ID=AKIAABCDEFGHIJKLMNOP":                          true,
		"PATH=/usr/bin:/bin":                               false,
		"GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D": false,
		"DB_PASSWORD_FILE=/run/secrets/db":                 false,
		"DB_PASSWORD=":                                     false,
		"TOKENIZERS_PARALLELISM=false":                     false,
		"HOMEPAGE=https://example.org/a@b":                 false,
		"SOURCE=git://git@example.org/x":                   false,
		"SECRETARY=ann":                                    false,
		"TOKEN_URL=https://example.org/token":              false,
		"KEYCLOAK_HOME=/opt/keycloak":                      false,
		"NODE_VERSION=20.1.0":                              false,
	} {
		config, err := json.Marshal(map[string]any{"config": map[string]any{"Env": []string{v}}})
		if err != nil {
			t.Fatal(err)
		}
		notes := publisher.SecretsIn(config)
		if len(notes) > 0 != secret {
			t.Errorf("%s: notes %q", v, notes)
		}
		name, value, _ := strings.Cut(v, "=")
		for _, n := range notes {
			if !strings.Contains(n, name) || strings.Contains(n, value) && value != "x" || !strings.Contains(n, "private repository") {
				t.Errorf("%s: note %q", v, n)
			}
		}
	}
	for _, hostile := range []string{"", "null", `{"config":{"Env":7}}`, `{"config":null}`} {
		if n := publisher.SecretsIn([]byte(hostile)); len(n) > 0 {
			t.Errorf("%s: %q", hostile, n)
		}
	}
	evil := `{"config":{"Env":["\u001b[2J\u0007_TOKEN=x"]}}`
	if n := publisher.SecretsIn([]byte(evil)); len(n) != 1 || slices.ContainsFunc([]byte(n[0]), func(b byte) bool { return b < ' ' }) {
		t.Errorf("a name that disturbs terminals: %q", n)
	}
}
