package rollout

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ParseRing reads NAME=ITEM[,ITEM]…, where an item is a share of the cells, N%
// with up to two decimals, or a label KEY=VALUE that they must have. Without a
// share it is all that have the labels.
func ParseRing(text string) (Ring, error) {
	name, items, ok := strings.Cut(text, "=")
	if !ok || items == "" {
		return Ring{}, fmt.Errorf("%w: ring %q: want NAME=PERCENT%%, such as canary=5%%, or NAME=LABEL=VALUE, such as canary=zone=z1", ErrInvalid, text)
	}
	r := Ring{Name: name}
	for item := range strings.SplitSeq(items, ",") {
		if number, ok := strings.CutSuffix(item, "%"); ok && !strings.Contains(item, "=") {
			share, err := parseShare(number)
			if err != nil || r.Share != 0 {
				return Ring{}, fmt.Errorf("%w: ring %q: one share, from 0.01%% to 100%%", ErrInvalid, text)
			}
			r.Share = share
			continue
		}
		key, value, ok := strings.Cut(item, "=")
		if _, twice := r.Labels[key]; !ok || twice {
			return Ring{}, fmt.Errorf("%w: ring %q: %q is neither a share such as 5%% nor a label KEY=VALUE of its own", ErrInvalid, text, item)
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[key] = value
	}
	if r.Share == 0 {
		r.Share = Whole
	}
	return r, r.check()
}

// parseShare reads a percentage without the sign.
func parseShare(text string) (int, error) {
	whole, part, _ := strings.Cut(text, ".")
	if len(part) > 2 || strings.ContainsAny(text, "+-") {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.Atoi(whole + (part + "00")[:2])
	if err == nil && (n < 1 || n > Whole) {
		err = strconv.ErrRange
	}
	return n, err
}

// String is what [ParseRing] reads.
func (r Ring) String() string {
	items := []string{r.Percent()}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		items = append(items, k+"="+r.Labels[k])
	}
	return r.Name + "=" + strings.Join(items, ",")
}

// Percent is the ring's share, such as 5% or 0.25%.
func (r Ring) Percent() string {
	return strconv.FormatFloat(float64(r.Share)/100, 'f', -1, 64) + "%"
}

func (r Ring) check() error {
	if !isWord(r.Name) {
		return fmt.Errorf("%w: %q names no ring: use letters, digits, - . and _", ErrInvalid, r.Name)
	}
	if r.Share < 1 || r.Share > Whole {
		return fmt.Errorf("%w: ring %s: a share of %d/%d", ErrInvalid, r.Name, r.Share, Whole)
	}
	if len(r.Labels) > MaxLabels {
		return fmt.Errorf("%w: ring %s: more than %d labels", ErrInvalid, r.Name, MaxLabels)
	}
	if err := CheckLabels(r.Labels); err != nil {
		return fmt.Errorf("ring %s: %w", r.Name, err)
	}
	return nil
}

// CheckLabels reports, as [ErrInvalid], labels that no ring could name.
func CheckLabels(labels map[string]string) error {
	for k, v := range labels {
		if !isWord(k) || !isWord(v) {
			return fmt.Errorf("%w: label %q=%q: use letters, digits, - . and _", ErrInvalid, k, v)
		}
	}
	return nil
}

// isWord accepts what needs no quotes anywhere.
func isWord(s string) bool {
	return s != "" && len(s) <= MaxText && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r))
	})
}

// Restarts is the only metric of a [Condition]: containers of an app that
// ended, per container and hour.
const Restarts = "restarts"

// Condition stops a rollout if a metric of the containers on the new version is
// more than Factor times that of those on the version before.
type Condition struct {
	Metric string  `json:"metric"`
	Factor float64 `json:"factor"`
}

// ParseCondition reads METRIC>FACTORx, such as restarts>2x.
func ParseCondition(text string) (Condition, error) {
	metric, rest, _ := strings.Cut(text, ">")
	number, ok := strings.CutSuffix(strings.TrimSpace(rest), "x")
	factor, err := strconv.ParseFloat(number, 64)
	c := Condition{strings.TrimSpace(metric), factor}
	if !ok || err != nil || c.check() != nil {
		return c, fmt.Errorf("%w: condition %q: want %s>FACTORx, such as %[3]s>2x", ErrInvalid, text, Restarts)
	}
	return c, nil
}

// String is what [ParseCondition] reads.
func (c Condition) String() string {
	return c.Metric + ">" + strconv.FormatFloat(c.Factor, 'f', -1, 64) + "x"
}

func (c Condition) check() error {
	if c.Metric != Restarts || !(c.Factor > 0) || math.IsInf(c.Factor, 0) {
		return fmt.Errorf("%w: condition %q over %v", ErrInvalid, c.Metric, c.Factor)
	}
	return nil
}
