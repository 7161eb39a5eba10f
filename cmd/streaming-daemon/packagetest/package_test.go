package packagetest_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// root is the top of the repository.
const root = "../../.."

// run gives what a command writes to both its outputs; it must succeed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// need skips the test without a program.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not on PATH: left out is the release with its Debian packages", p)
		}
	}
}

// Goal: what `make release` leaves is whole, static, for both architectures, and says where it comes from; the package
// installs into an empty root, works there, and leaves nothing behind. Method: the real make, dpkg and binaries.
func TestRelease(t *testing.T) {
	if raceEnabled {
		t.Skip("make builds without the race detector: the run of the tests without it has this one")
	}
	need(t, "make", "dpkg", "dpkg-deb", "git", "awk", "gzip")
	if out, err := command("git", "rev-parse", "--is-inside-work-tree").CombinedOutput(); err != nil {
		t.Skipf("a release is made from a checkout: %s", out)
	}
	if out, err := command("go", "tool", "-modfile=deploy/deb/nfpm.mod", "nfpm", "--version").CombinedOutput(); err != nil {
		t.Skipf("left out is the release: nfpm cannot be built here (is the module proxy within reach?): %v\n%s", err, out)
	}
	dist := t.TempDir()
	const version, debVersion = "v9.8.7-test", "9.8.7+test"
	run(t, "make", "release", "DIST="+dist, "VERSION="+version, "DEB_VERSION="+debVersion)

	deb := func(arch string) string { return "streaming-daemon_" + debVersion + "_" + arch + ".deb" }
	want := []string{"SHA256SUMS", "streaming-daemon-linux-amd64", "streaming-daemon-linux-arm64", deb("amd64"), deb("arm64")}
	if got := list(t, dist); !slices.Equal(got, want) {
		t.Fatalf("dist has %q, want %q", got, want)
	}
	checkSums(t, dist, want[1:])
	checkELF(t, filepath.Join(dist, "streaming-daemon-linux-amd64"), elf.EM_X86_64)
	checkELF(t, filepath.Join(dist, "streaming-daemon-linux-arm64"), elf.EM_AARCH64)
	for _, arch := range []string{"amd64", "arm64"} {
		for field, want := range map[string]string{"Package": "streaming-daemon", "Architecture": arch, "Version": debVersion} {
			if got := strings.TrimSpace(run(t, "dpkg-deb", "--field", filepath.Join(dist, deb(arch)), field)); got != want {
				t.Errorf("%s of %s is %q, want %q", field, deb(arch), got, want)
			}
		}
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Logf("left out: installing the package, which there is none of for %s", runtime.GOARCH)
		return
	}
	t.Run("version", func(t *testing.T) {
		checkVersion(t, filepath.Join(dist, "streaming-daemon-linux-"+runtime.GOARCH), version)
	})
	t.Run("install", func(t *testing.T) { checkInstalled(t, filepath.Join(dist, deb(runtime.GOARCH)), version) })
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	return cmd
}

// list gives the names in a directory, in order.
func list(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// checkSums: SHA256SUMS has the sum of each file, in the form of sha256sum.
func checkSums(t *testing.T, dist string, files []string) {
	t.Helper()
	var want strings.Builder
	for _, name := range files {
		content, err := os.ReadFile(filepath.Join(dist, name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		want.WriteString(hex.EncodeToString(sum[:]) + "  " + name + "\n")
	}
	if got, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS")); err != nil || string(got) != want.String() {
		t.Errorf("SHA256SUMS is %s, %v, want %s", got, err, &want)
	}
}

// checkELF: the binary is for the machine, static, stripped, and knows no path of where it was built.
func checkELF(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine || f.Section(".interp") != nil || f.Section(".dynamic") != nil || f.Section(".symtab") != nil {
		t.Errorf("%s is for %v; interpreter: %t, dynamic: %t, symbols: %t", path, f.Machine,
			f.Section(".interp") != nil, f.Section(".dynamic") != nil, f.Section(".symtab") != nil)
	}
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte(here+"/")) {
		t.Errorf("%s contains the path %s", path, here)
	}
}

var versionLine = regexp.MustCompile(`^streaming-daemon (\S+) \(commit ([0-9a-f]{40})(-dirty)?, go\S+ linux/(\S+)\)\n$`)

// checkVersion: -version tells the version, and a commit that there is.
func checkVersion(t *testing.T, binary, version string) {
	out, err := exec.Command(binary, "-version").Output()
	m := versionLine.FindStringSubmatch(string(out))
	if err != nil || m == nil || m[1] != version || m[4] != runtime.GOARCH {
		t.Fatalf("-version says %q, %v", out, err)
	}
	if kind := strings.TrimSpace(run(t, "git", "cat-file", "-t", m[2])); kind != "commit" {
		t.Errorf("%s is a %s", m[2], kind)
	}
}

// installed are the files of the package that the system looks for where they are, with their modes.
var installed = map[string]fs.FileMode{
	"usr/bin/streaming-daemon":                                      0o755,
	"usr/share/man/man8/streaming-daemon.8.gz":                      0o644,
	"etc/streaming-daemon.yaml":                                     0o644,
	"etc/logrotate.d/streaming-daemon":                              0o644,
	"usr/lib/systemd/system/streaming-daemon.service":               0o644,
	"usr/lib/systemd/system/streaming-daemon.service.d/config.conf": 0o644,
	"usr/share/doc/streaming-daemon/copyright":                      0o644,
}

// checkInstalled installs the package in an empty root, looks at it, uses it, and purges it.
func checkInstalled(t *testing.T, deb, version string) {
	dir := t.TempDir()
	for _, d := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(dir, "var/lib/dpkg", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(dir, "var/lib/dpkg", f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The scripts run, with DPKG_ROOT in place of a chroot. There is no other package to depend on.
	dpkg := func(args ...string) {
		run(t, "dpkg", append([]string{"--root=" + dir, "--force-script-chrootless", "--force-not-root", "--force-depends", "--log=/dev/null"}, args...)...)
	}
	dpkg("--install", deb)
	for name, mode := range installed {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if _, err := exec.LookPath("deb-systemd-helper"); err == nil {
		if _, err := os.Lstat(filepath.Join(dir, "etc/systemd/system/multi-user.target.wants/streaming-daemon.service")); err != nil {
			t.Errorf("the service is not enabled: %v", err)
		}
	}
	binary := filepath.Join(dir, "usr/bin/streaming-daemon")
	checkVersion(t, binary, version)
	t.Run("man", func(t *testing.T) {
		checkManual(t, binary, filepath.Join(dir, "usr/share/man/man8/streaming-daemon.8.gz"))
	})
	t.Run("config", func(t *testing.T) { checkConfig(t, binary, filepath.Join(dir, "etc/streaming-daemon.yaml")) })
	t.Run("serve", func(t *testing.T) { checkServes(t, binary, filepath.Join(dir, "etc/streaming-daemon.yaml")) })
	t.Run("logrotate", func(t *testing.T) { checkLogrotate(t, filepath.Join(dir, "etc/logrotate.d/streaming-daemon")) })

	dpkg("--purge", "streaming-daemon")
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasPrefix(path, filepath.Join(dir, "var/lib/dpkg")) {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// checkManual: the page has every option that -h has, and groff has nothing to say against it.
func checkManual(t *testing.T, binary, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.Command(binary, "-h").Output()
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`(?m)^  (-[a-z0-9-]+)`).FindAllSubmatch(help, -1)
	if len(options) < 20 {
		t.Fatalf("-h has %d options", len(options))
	}
	for _, o := range options {
		if line := ".B " + strings.ReplaceAll(string(o[1]), "-", `\-`); !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + `( |$)`).Match(page) {
			t.Errorf("no %s in the manual page", o[1])
		}
	}
	if regexp.MustCompile(`@[A-Z]+@`).Match(page) {
		t.Error("a placeholder is left in the manual page")
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("groff is not on PATH (apt-get install groff-base): left out is its judgement of the manual page")
	}
	cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z")
	cmd.Stdin = bytes.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v\n%s", err, out)
	}
}
