package apachetest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/apachetest"
)

// tlsFiles are a certificate for 127.0.0.1, its key, and the address that TLS is spoken on: 127.0.0.2, so that one
// free port serves both.
type tlsFiles struct{ certificate, key string }

func newCertificate(t testing.TB) (tlsFiles, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 2)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := tlsFiles{filepath.Join(t.TempDir(), "certificate.pem"), filepath.Join(t.TempDir(), "key.pem")}
	for path, block := range map[string]*pem.Block{
		files.certificate: {Type: "CERTIFICATE", Bytes: der}, files.key: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return files, roots
}

// tlsSite is the configuration of a virtual host that speaks TLS.
func tlsSite(f tlsFiles) string {
	return fmt.Sprintf("Listen 127.0.0.2:${StreamPort}\n<VirtualHost 127.0.0.2:${StreamPort}>\nDocumentRoot \"${StreamRoot}/htdocs\"\n"+
		"SSLEngine on\nSSLCertificateFile %q\nSSLCertificateKeyFile %q\n</VirtualHost>\n", f.certificate, f.key)
}

// overTLS is b on that host.
func overTLS(t testing.TB, b *browser, a *apachetest.Apache, roots *x509.CertPool) *browser {
	t.Helper()
	_, port, err := net.SplitHostPort(a.Addr)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{Client: http.Client{Transport: transport, Timeout: patience},
		base: "https://" + net.JoinHostPort("127.0.0.2", port), cookie: b.cookie}
}

// overHTTP2 is b with HTTP/2 and no TLS.
func overHTTP2(t testing.TB, b *browser) *browser {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{Client: http.Client{Transport: transport, Timeout: patience}, base: b.base, cookie: b.cookie}
}
