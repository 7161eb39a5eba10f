package apachetest

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"
	"testing"
)

// moduleDir is where Debian keeps Apache's modules.
const moduleDir = "/usr/lib/apache2/modules"

// find gives the path of a program, which may be where only root looks; "": not on this machine.
func find(pattern string) string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if matches, _ := filepath.Glob(filepath.Join(dir, pattern)); len(matches) > 0 {
			return matches[len(matches)-1] // the newest version
		}
	}
	return ""
}

// Need skips the test where Apache, or the PHP of that MPM, is missing: there is nothing then that could be seen.
func Need(t testing.TB, mpm MPM) {
	t.Helper()
	if find("apache2") == "" || !exists(filepath.Join(moduleDir, "mod_proxy_fdpass.so")) {
		t.Skip("no Apache as Debian has it on this machine (apt-get install apache2)")
	}
	switch {
	case mpm == Event && find("php-fpm*") == "":
		t.Skip("no php-fpm on this machine, which PHP under the event MPM needs (apt-get install php-fpm)")
	case mpm == Prefork && modPHP() == "":
		t.Skip("no mod_php on this machine, which PHP under the prefork MPM is tested with (apt-get install libapache2-mod-php)")
	}
}

func modPHP() string {
	if matches, _ := filepath.Glob(filepath.Join(moduleDir, "libphp*.so")); len(matches) > 0 {
		return matches[len(matches)-1]
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// webUser is the user that Apache and PHP become, as root will not run them as itself; "": they stay who we are.
func webUser() string {
	if os.Getuid() != 0 {
		return ""
	}
	for _, name := range []string{"www-data", "nobody"} {
		if _, err := user.Lookup(name); err == nil {
			return name
		}
	}
	return ""
}

// process is a program that runs until its end is asked for.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// startProcess runs a program whose output goes to a file.
func startProcess(t testing.TB, output, name string, args ...string) *process {
	t.Helper()
	file, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() // the program has its own
	p := &process{cmd: exec.Command(name, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	// Apache ends by a signal to its whole process group, which must not be ours.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	return p
}

// over reports whether the program has ended.
func (p *process) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}
