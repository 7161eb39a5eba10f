package apachetest

import (
	_ "embed"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 30 * time.Second

// MPM is one of Apache's ways to spread work.
type MPM string

// The two: threads that wait for their clients together, and a process per request.
const (
	Event   MPM = "event"
	Prefork MPM = "prefork"
)

// Workers is how many requests an Apache of this package serves at a time.
const Workers = 8

// Config is what differs between the Apaches of the tests.
type Config struct {
	MPM     MPM
	Site    string   // a file of deploy/apache, or one with a path; "": none
	Socket  string   // the daemon's handoff socket, absolute
	Modules []string // beyond those of every Apache here: ssl, http2
	Without string   // one of those, left out
	Extra   string   // configuration before the site's
}

// Apache is a running Apache.
type Apache struct {
	Root string // its ServerRoot: error.log, htdocs/, tickets/, sessions/
	Addr string // host:port

	t testing.TB
}

// modules are those that a Debian Apache loads by default and that matter here, and those that the files of
// deploy/apache name.
var modules = []string{"authz_core", "authz_host", "mime", "dir", "alias", "env", "setenvif", "status", "deflate", "filter",
	"headers", "proxy", "proxy_fcgi", "proxy_fdpass"}

var (
	//go:embed httpd.conf
	httpdConf string
	//go:embed fpm.conf
	fpmConf string

	httpdTemplate = template.Must(template.New("httpd.conf").Parse(httpdConf))
	fpmTemplate   = template.Must(template.New("fpm.conf").Parse(fpmConf))
)

// values are what the templates are filled in with.
type values struct {
	Config
	Root, User, ModuleDir, ModPHP string
	Port, Workers                 int
	Site                          string // hides Config's: absolute
	Socket                        string // hides Config's: as the site's file wants it
	Modules                       []string
}

// Start runs an Apache until the end of the test and waits until it answers. One goroutine.
func Start(t testing.TB, cfg Config) *Apache {
	t.Helper()
	Need(t, cfg.MPM)
	root := prepare(t)
	if cfg.MPM == Event {
		startFPM(t, root)
	}
	a := &Apache{Root: root, t: t}
	// The port is free when it is looked for; that somebody else takes it before Apache does is bad luck, not a fault.
	for attempt := 0; ; attempt++ {
		port := freePort(t)
		a.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		p := startProcess(t, filepath.Join(root, "output"), find("apache2"), "-f", write(t, cfg, root, port), "-D", "FOREGROUND")
		if a.awaitAnswer(p) {
			t.Cleanup(func() { a.stop(p) })
			return a
		}
		if log := a.Log("output") + a.Log("error.log"); attempt == 3 || !strings.Contains(log, "Address already in use") {
			t.Fatalf("Apache does not start:\n%s", log)
		}
	}
}

// Check has Apache read the configuration and do nothing else. It gives what Apache says, and whether it liked it.
func Check(t testing.TB, cfg Config) (says string, ok bool) {
	t.Helper()
	Need(t, cfg.MPM)
	root := prepare(t)
	out, err := exec.Command(find("apache2"), "-t", "-f", write(t, cfg, root, freePort(t))).CombinedOutput()
	return string(out), err == nil
}

// prepare makes the ServerRoot. PHP's files are copied into it: the web server's user may not enter the repository.
func prepare(t testing.TB) string {
	t.Helper()
	root := daemontest.Dir(t)
	for _, dir := range []string{"htdocs", "php", "tickets", "sessions"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if name := webUser(); name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		for _, dir := range []string{"tickets", "sessions"} {
			if err := os.Chown(filepath.Join(root, dir), uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range map[string]string{"alive.txt": "alive", "root.txt": root} {
		if err := os.WriteFile(filepath.Join(root, "htdocs", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := filepath.Glob(filepath.Join(Deploy(t), "php", "*.php"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("no PHP in deploy: %v", err)
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "php", filepath.Base(source)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Deploy is the repository's directory of that name.
func Deploy(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "deploy")
}

// write makes httpd.conf and gives its path.
func write(t testing.TB, cfg Config, root string, port int) string {
	t.Helper()
	v := values{Config: cfg, Root: root, User: webUser(), ModuleDir: moduleDir, ModPHP: modPHP(), Port: port, Workers: Workers,
		Socket: cfg.Socket, Modules: append(append([]string{"mpm_" + string(cfg.MPM)}, modules...), cfg.Modules...)}
	v.Modules = slices.DeleteFunc(v.Modules, func(name string) bool { return name == cfg.Without })
	if v.Site = cfg.Site; v.Site != "" && !filepath.IsAbs(v.Site) {
		v.Site = filepath.Join(Deploy(t), "apache", cfg.Site)
	}
	if cfg.Site == "fdpass.conf" {
		v.Socket = "../../../.." + cfg.Socket // relative to the ServerRoot, as the file's own default is
	}
	return render(t, httpdTemplate, filepath.Join(root, "httpd.conf"), v)
}

func render(t testing.TB, what *template.Template, path string, v any) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := what.Execute(f, v); err != nil {
		t.Fatal(err)
	}
	return path
}

func startFPM(t testing.TB, root string) {
	t.Helper()
	conf := render(t, fpmTemplate, filepath.Join(root, "fpm.conf"), values{Root: root, User: webUser()})
	p := startProcess(t, filepath.Join(root, "fpm.output"), find("php-fpm*"), "--nodaemonize", "--fpm-config", conf)
	t.Cleanup(func() { end(t, p, "php-fpm") })
	await(t, "php-fpm to listen", func() bool {
		if p.over() {
			says, _ := os.ReadFile(filepath.Join(root, "fpm.output"))
			t.Fatalf("php-fpm does not start:\n%s", says)
		}
		// The file alone says little: it is there before anybody listens.
		c, err := net.Dial("unix", filepath.Join(root, "fpm.sock"))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// awaitAnswer waits until Apache answers a request; false: it has ended. Whether it is this Apache that answers shows
// in a file of its own: where somebody else has the port, a mere connection would be to him.
func (a *Apache) awaitAnswer(p *process) bool {
	a.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	await(a.t, "Apache to answer", func() bool {
		response, err := client.Get("http://" + a.Addr + "/root.txt")
		if err != nil {
			return p.over()
		}
		defer response.Body.Close()
		root, _ := io.ReadAll(response.Body)
		return string(root) == a.Root || p.over()
	})
	return !p.over()
}

// stop ends Apache. A child that crashed before is a fault; that one of event's crashes while it is told to stop at
// once was seen (one in some tens of runs on a loaded machine) and is Apache's own matter.
func (a *Apache) stop(p *process) {
	a.t.Helper()
	if log := a.Log("error.log"); strings.Contains(log, "exit signal") {
		a.t.Errorf("a child of Apache's crashed:\n%s", log)
	}
	end(a.t, p, "Apache")
}

// end asks a program to end, and sees that it does.
func end(t testing.TB, p *process, name string) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
		t.Errorf("%s does not end", name)
	}
}

// Log gives a file of the ServerRoot; "": it is not there.
func (a *Apache) Log(name string) string {
	b, _ := os.ReadFile(filepath.Join(a.Root, name))
	return string(b)
}

// SignIn makes a session, as PHP would when a user signs in, and gives the cookie that names it.
func (a *Apache) SignIn(user string) string {
	a.t.Helper()
	const id = "0123456789abcdefghijklmnop" // 26 characters, as PHP makes them by default
	session := fmt.Sprintf(`user_id|s:%d:%q;`, len(user), user)
	path := filepath.Join(a.Root, "sessions", "sess_"+id)
	if err := os.WriteFile(path, []byte(session), 0o666); err != nil {
		a.t.Fatal(err)
	}
	// PHP takes only a session file of its own user.
	if info, err := os.Stat(filepath.Dir(path)); err == nil && os.Getuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			a.t.Fatal(err)
		}
	}
	return "PHPSESSID=" + id
}

// freePort looks for a port that nobody listens on, below those that the kernel gives to outgoing connections
// (ip_local_port_range: 32768 and up): the clients of the tests side by side take one of those each moment.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 16384 + rand.IntN(16384)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// await polls until condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
