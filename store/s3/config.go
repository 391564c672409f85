package s3

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Scheme begins the name of a store in a bucket: s3://BUCKET[/PREFIX].
const Scheme = "s3://"

// ConfigVariable is the environment variable that names a stock configuration
// file where no flag does.
const ConfigVariable = "ROOTSTOCK_S3_CONFIG"

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 64 << 10

// Configure makes options of a spec, s3://BUCKET[/PREFIX], and of what
// environment variables say: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
// AWS_REGION or AWS_DEFAULT_REGION, and for credentials those that all AWS
// tools know. A file in the form of stock CernVM-FS (CVMFS-FORMAT 5.10), named
// by ROOTSTOCK_S3_CONFIG, overrides them.
func Configure(spec string, getenv func(string) string) (Options, error) {
	o, err := parseSpec(spec)
	if err != nil {
		return o, err
	}
	o.Endpoint = first(getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL"))
	o.Region = first(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"))
	file := getenv(ConfigVariable)
	if file == "" {
		return o, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return o, fmt.Errorf("S3 configuration: %w", err)
	}
	defer f.Close()
	if err := o.stock(f); err != nil {
		return o, fmt.Errorf("S3 configuration %s: %w", file, err)
	}
	return o, nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func parseSpec(spec string) (o Options, err error) {
	rest, ok := strings.CutPrefix(spec, Scheme)
	o.Bucket, o.Prefix, _ = strings.Cut(rest, "/")
	o.Prefix = strings.TrimSuffix(o.Prefix, "/")
	if !ok || len(o.Bucket) < 3 || len(o.Bucket) > 63 {
		return o, fmt.Errorf("store %q: want s3://BUCKET or s3://BUCKET/PREFIX", spec)
	}
	for _, c := range []byte(o.Bucket) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return o, fmt.Errorf("store %q: a bucket's name has lower-case letters, digits, dots and dashes", spec)
		}
	}
	return o, nil
}

// stock reads KEY=value lines as stock tools do: CVMFS_S3_* keys, others are
// none of ours. A key of that kind which is not known is an error, since it
// would have been meant to do something.
func (o *Options) stock(r io.Reader) error {
	var host, port string
	https := false
	lines := bufio.NewScanner(io.LimitReader(r, maxConfig))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		k, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if line == "" || line[0] == '#' || !strings.HasPrefix(k, "CVMFS_S3_") {
			continue
		}
		if !ok {
			return fmt.Errorf("line %d: want KEY=value", n)
		}
		value = strings.Trim(value, `"'`)
		var err error
		switch k {
		case "CVMFS_S3_HOST":
			host = value
		case "CVMFS_S3_PORT":
			port = value
		case "CVMFS_S3_USE_HTTPS":
			https, err = parseBool(value)
		default:
			err = o.stockKey(k, value)
		}
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", n, k, err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if host != "" {
		o.Endpoint = "http://" + host
		if https {
			o.Endpoint = "https://" + host
		}
		if port != "" {
			o.Endpoint = strings.Replace(o.Endpoint, host, net.JoinHostPort(host, port), 1)
		}
	}
	return nil
}

func (o *Options) stockKey(k, value string) (err error) {
	switch k {
	case "CVMFS_S3_ACCESS_KEY":
		o.AccessKey = value
	case "CVMFS_S3_SECRET_KEY":
		o.SecretKey = value
	case "CVMFS_S3_BUCKET":
		if value != o.Bucket {
			return fmt.Errorf("names bucket %q, the store is in %q", value, o.Bucket)
		}
	case "CVMFS_S3_DNS_BUCKETS":
		o.DNSBuckets, err = parseBool(value)
	case "CVMFS_S3_REGION":
		o.Region = value
	case "CVMFS_S3_FLAVOR":
		switch value {
		case "awsv2":
			o.SignatureV2 = true
		case "awsv4":
		default:
			return fmt.Errorf("%q is not supported: awsv4 or awsv2", value)
		}
	case "CVMFS_S3_MAX_NUMBER_OF_PARALLEL_CONNECTIONS":
		o.Concurrency, err = parseCount(value)
	case "CVMFS_S3_MAX_RETRIES":
		o.Retries, err = parseCount(value)
	case "CVMFS_S3_TIMEOUT":
		var seconds int
		seconds, err = parseCount(value)
		o.Timeout = time.Duration(seconds) * time.Second
	case "CVMFS_S3_X_AMZ_ACL":
		o.ACL = value
	case "CVMFS_S3_PROXY":
		o.Proxy, err = url.Parse(value)
	case "CVMFS_S3_PEEK_BEFORE_PUT":
		_, err = parseBool(value) // we always look, and by listings
	default:
		return fmt.Errorf("unknown setting")
	}
	return err
}

// parseBool reads what stock scripts take for true and false.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "yes", "on", "true", "1":
		return true, nil
	case "no", "off", "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 10000 {
		return 0, fmt.Errorf("%q is no number from 1 to 10000", s)
	}
	return n, nil
}
