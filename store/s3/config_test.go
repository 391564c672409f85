package s3_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/store/s3"
)

func configure(t *testing.T, spec, file string, env map[string]string) (s3.Options, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "s3.conf")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if env == nil {
			env = map[string]string{}
		}
		env[s3.ConfigVariable] = path
	}
	return s3.Configure(spec, func(k string) string { return env[k] })
}

func TestConfigure(t *testing.T) {
	for name, tc := range map[string]struct {
		spec, file string
		env        map[string]string
		want       s3.Options
	}{
		"bucket": {spec: "s3://abc", want: s3.Options{Bucket: "abc"}},
		"prefix": {spec: "s3://abc/x/y.z/", want: s3.Options{Bucket: "abc", Prefix: "x/y.z"}},
		"environment": {
			spec: "s3://abc/x", env: map[string]string{"AWS_ENDPOINT_URL": "http://a:1", "AWS_DEFAULT_REGION": "r"},
			want: s3.Options{Bucket: "abc", Prefix: "x", Endpoint: "http://a:1", Region: "r"},
		},
		"environment of s3": {
			spec: "s3://abc", env: map[string]string{"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "https://b", "AWS_REGION": "q", "AWS_DEFAULT_REGION": "r"},
			want: s3.Options{Bucket: "abc", Endpoint: "https://b", Region: "q"},
		},
		"stock": {
			spec: "s3://abc/x", env: map[string]string{"AWS_ENDPOINT_URL": "http://a:1", "AWS_REGION": "q"},
			file: `# as stock writes it
CVMFS_S3_HOST=ceph.example.org
CVMFS_S3_PORT=8080
CVMFS_S3_ACCESS_KEY="key"
CVMFS_S3_SECRET_KEY='se=cret'
CVMFS_S3_BUCKET=abc
CVMFS_S3_DNS_BUCKETS=false
CVMFS_S3_FLAVOR=awsv2
CVMFS_S3_MAX_NUMBER_OF_PARALLEL_CONNECTIONS=16
CVMFS_S3_MAX_RETRIES=3
CVMFS_S3_TIMEOUT=60
CVMFS_S3_X_AMZ_ACL=public-read
CVMFS_S3_PEEK_BEFORE_PUT=on
CVMFS_OTHER=x
`,
			want: s3.Options{
				Bucket: "abc", Prefix: "x", Endpoint: "http://ceph.example.org:8080", Region: "q", AccessKey: "key", SecretKey: "se=cret",
				SignatureV2: true, Concurrency: 16, Retries: 3, Timeout: time.Minute, ACL: "public-read",
			},
		},
		"https": {
			spec: "s3://abc", file: "CVMFS_S3_USE_HTTPS=yes\nCVMFS_S3_HOST=h\nCVMFS_S3_DNS_BUCKETS=true\nCVMFS_S3_REGION=r\n",
			want: s3.Options{Bucket: "abc", Endpoint: "https://h", DNSBuckets: true, Region: "r"},
		},
	} {
		got, err := configure(t, tc.spec, tc.file, tc.env)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	o, err := configure(t, "s3://abc", "CVMFS_S3_PROXY=http://proxy:3128\n", nil)
	if err != nil || o.Proxy.String() != "http://proxy:3128" {
		t.Errorf("%v, %v", o.Proxy, err)
	}
}

func TestConfigureRefuses(t *testing.T) {
	for _, spec := range []string{"", "abc", "s3://", "s3:///x", "s3://ab", "s3://Upper/x", "s3://a_b/x", "gs://abc", "s3://" + strings.Repeat("x", 64)} {
		if o, err := configure(t, spec, "", nil); err == nil || !strings.Contains(err.Error(), spec) {
			t.Errorf("%q: %v, %v", spec, o, err)
		}
	}
	for line, want := range map[string]string{
		"CVMFS_S3_BUCKET=other":         `"other"`,
		"CVMFS_S3_FLAVOR=azure":         "azure",
		"CVMFS_S3_TIMEOUT=-1":           "CVMFS_S3_TIMEOUT",
		"CVMFS_S3_MAX_RETRIES=many":     "many",
		"CVMFS_S3_USE_HTTPS=perhaps":    "perhaps",
		"CVMFS_S3_ACESS_KEY=x":          "CVMFS_S3_ACESS_KEY",
		"CVMFS_S3_REGION":               "KEY=value",
		"CVMFS_S3_PEEK_BEFORE_PUT=hmmm": "hmmm",
	} {
		if _, err := configure(t, "s3://abc", "\n"+line+"\n", nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := configure(t, "s3://abc", "", map[string]string{s3.ConfigVariable: "/nowhere"}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, o := range []s3.Options{{Endpoint: "ftp://x"}, {Endpoint: "http://x/path"}, {Endpoint: "x:1"}, {Prefix: "a/../b"}, {Prefix: ".rootstock"}} {
		o.Bucket = "abc"
		if _, err := s3.Open(o); err == nil {
			t.Errorf("%+v was opened", o)
		}
	}
}
