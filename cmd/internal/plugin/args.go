package plugin

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// errUsage reports a command line that is wrong. Its messages never hold a
// flag's value: that may be a password.
var errUsage = errors.New("usage")

// call is a parsed command line.
type call struct {
	config       string
	command      string
	uri, handle  string // handle is a directory for thin-tars
	diskLimit    int64  // bytes, 0 for none
	excludeImage bool
	username     string
	password     string
}

// commands and what they take besides flags.
var commands = []struct {
	name     string
	operands []string
}{
	{"create", []string{"<uri>", "<handle>"}},
	{"delete", []string{"<handle>"}},
	{"stats", []string{"<handle>"}},
	{"capacity", nil},
	{"gc", nil},
	{"thin-tars", []string{"<directory>"}},
	{fillPool, nil},
}

// fillPool is what the plugin starts by itself, in the background.
const fillPool = "fill-pool"

const usage = "rootstock-plugin [--config FILE] create [--disk-limit-size-bytes N [--exclude-image-from-quota]] " +
	"[--username U] [--password P] <uri> <handle> | delete <handle> | stats <handle> | capacity | gc | thin-tars <directory>"

// parseArgs reads Garden's command line (docs/garden.md 1): flags as "--flag
// value" or "--flag=value", anywhere. A library for it would cost more than
// the whole start of the process.
func parseArgs(args []string) (call, error) {
	var c call
	var operands []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			operands = append(operands, args...)
			break
		}
		if !strings.HasPrefix(arg, "--") {
			operands = append(operands, arg)
			continue
		}
		name, value, inline := strings.Cut(arg, "=")
		if name == "--exclude-image-from-quota" && !inline {
			c.excludeImage = true
			continue
		}
		if !known(name) {
			return call{}, fmt.Errorf("%w: unknown flag %.40q; want %s", errUsage, name, usage)
		}
		if !inline {
			if len(args) == 0 {
				return call{}, fmt.Errorf("%w: %s needs a value", errUsage, name)
			}
			value, args = args[0], args[1:]
		}
		if err := c.set(name, value); err != nil {
			return call{}, err
		}
	}
	return c.take(operands)
}

func known(flag string) bool {
	return slices.Contains([]string{
		"--config", "--disk-limit-size-bytes", "--exclude-image-from-quota", "--username", "--password",
	}, flag)
}

func (c *call) set(flag, value string) error {
	var err error
	switch flag {
	case "--config":
		c.config = value
	case "--disk-limit-size-bytes":
		c.diskLimit, err = strconv.ParseInt(value, 10, 64)
		if err != nil || c.diskLimit < 0 {
			return fmt.Errorf("%w: %s is not a number of bytes", errUsage, flag)
		}
	case "--username":
		c.username = value
	case "--password":
		c.password = value
	case "--exclude-image-from-quota":
		if c.excludeImage, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%w: %s is neither true nor false", errUsage, flag)
		}
	}
	return nil
}

func (c *call) take(operands []string) (call, error) {
	if len(operands) == 0 {
		return call{}, fmt.Errorf("%w: no command; want %s", errUsage, usage)
	}
	c.command, operands = operands[0], operands[1:]
	for _, cmd := range commands {
		if cmd.name != c.command {
			continue
		}
		if len(operands) != len(cmd.operands) {
			return call{}, fmt.Errorf("%w: %s takes %d arguments, %s, and got %d", errUsage, cmd.name,
				len(cmd.operands), strings.Join(cmd.operands, " "), len(operands))
		}
		switch len(operands) {
		case 2:
			c.uri, c.handle = operands[0], operands[1]
		case 1:
			c.handle = operands[0]
		}
		return *c, nil
	}
	return call{}, fmt.Errorf("%w: unknown command %.40q; want %s", errUsage, c.command, usage)
}
