package plugin

import (
	"errors"
	"strings"
	"testing"
)

func TestParseArgs(t *testing.T) {
	for line, want := range map[string]call{
		"create u h":                {command: "create", uri: "u", handle: "h"},
		"--config f create u h":     {command: "create", uri: "u", handle: "h", config: "f"},
		"--config=f=g delete h":     {command: "delete", handle: "h", config: "f=g"},
		"stats h --config f":        {command: "stats", handle: "h", config: "f"},
		"capacity":                  {command: "capacity"},
		"gc":                        {command: "gc"},
		"thin-tars /d":              {command: "thin-tars", handle: "/d"},
		"create --username u1 u h":  {command: "create", uri: "u", handle: "h", username: "u1"},
		"create --password --x u h": {command: "create", uri: "u", handle: "h", password: "--x"},
		"create -- --u --h":         {command: "create", uri: "--u", handle: "--h"},
		"delete -h":                 {command: "delete", handle: "-h"},
		"create --password= u h":    {command: "create", uri: "u", handle: "h"},
		"--config f create --disk-limit-size-bytes 7 --exclude-image-from-quota --username a --password b u h": {
			command: "create", uri: "u", handle: "h", config: "f", diskLimit: 7, excludeImage: true,
			username: "a", password: "b",
		},
		"create --disk-limit-size-bytes=7 --exclude-image-from-quota=false u h": {
			command: "create", uri: "u", handle: "h", diskLimit: 7,
		},
	} {
		if got, err := parseArgs(strings.Fields(line)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	// An empty value is a value.
	if got, err := parseArgs([]string{"create", "--username", "", "u", "h"}); err != nil || got.uri != "u" {
		t.Errorf("empty user name: %+v, %v", got, err)
	}
}

// No message repeats a value.
func TestParseArgsRefuses(t *testing.T) {
	for _, line := range []string{
		"", "--config", "explode", "create", "create u", "create u h s3cret", "delete", "stats", "capacity x", "gc x",
		"create --disk-limit-size-bytes s3cret u h", "create --disk-limit-size-bytes -1 u h",
		"create --disk-limit-size-bytes 99999999999999999999 u h", "create --disk-limit-size-bytes=s3cret u h",
		"create --exclude-image-from-quota=s3cret u h", "--pass=s3cret create u h", "create u h --password",
	} {
		if got, err := parseArgs(strings.Fields(line)); !errors.Is(err, errUsage) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"a":                        "a",
		"a\nb\r\n\nc\n":            "a; b; c",
		"a\xffb":                   "a�b",
		strings.Repeat("ä", 4<<10): strings.Repeat("ä", 2<<10) + "…",
	} {
		if got := oneLine(errors.New(in)); got != want {
			t.Errorf("oneLine(%.40q) = %.40q of %d bytes", in, got, len(got))
		}
	}
}
