// Command kube-apiserver runs the real Kubernetes API server and its etcd in one process, for tests and the demo.
//
// Everything it needs (etcd data, certificates, tokens, service account key) lives in --dir, and stays valid when a
// second run uses the same directory, also after SIGKILL: the same token, the same CA and, where it is still free,
// the same port, so that a client sees "the API server restarted" and not "a new cluster".
//
// Rejected: downloaded envtest binaries (no source, another download host), and etcd as a second process (two
// things to stop, and no way to compact the store without a client).
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // CronJob time zones

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"golang.org/x/sys/unix"
	genericapiserver "k8s.io/apiserver/pkg/server"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const startDeadline = 120 * time.Second

type options struct {
	dir           string
	bindAddress   string
	port          int
	logFile       string
	exitWithStdin bool
	apiserverArgs []string // appended last, so that they win over ours
}

func main() {
	if err := run(parseOptions()); err != nil {
		fmt.Fprintf(os.Stderr, "kube-apiserver: %v\n", err)
		os.Exit(1)
	}
}

func parseOptions() options {
	var o options
	flag.StringVar(&o.dir, "dir", "", "state `directory`; created when missing, may be used again by a later run (required)")
	flag.StringVar(&o.bindAddress, "bind-address", "127.0.0.1", "IP `address` to serve on; 0.0.0.0 and :: are reached as loopback by the kubeconfig")
	flag.IntVar(&o.port, "port", 0, "port; 0 = the one of the last run in --dir if it is free, else any free one")
	flag.StringVar(&o.logFile, "log-file", "", "append logs to this `file` instead of stderr")
	flag.BoolVar(&o.exitWithStdin, "exit-with-stdin", false, "stop when stdin reaches its end (the parent died)")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: kube-apiserver --dir DIR [flags] [-- flags of the Kubernetes API server]")
		flag.PrintDefaults()
		fmt.Fprintln(os.Stderr, "SEDGE_KUBE_APISERVER_ARGS: more flags of the Kubernetes API server, separated by spaces.\n"+
			"stdout: READY {\"kubeconfig\",\"url\"} once; COMPACTED {\"revision\"} after each SIGUSR1, which compacts etcd up to now.")
	}
	flag.Parse()
	if o.dir == "" {
		flag.Usage()
		os.Exit(2)
	}
	o.apiserverArgs = append(strings.Fields(os.Getenv("SEDGE_KUBE_APISERVER_ARGS")), flag.Args()...)
	return o
}

func run(o options) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	bind := net.ParseIP(o.bindAddress)
	if bind == nil {
		return fmt.Errorf("--bind-address %q: want an IP address", o.bindAddress)
	}
	// One certificate directory for each address: the API server signs the certificate for the address that it serves.
	certDir := filepath.Join(dir, "certs-"+strings.ReplaceAll(o.bindAddress, ":", "_"))
	if err := os.MkdirAll(certDir, 0o700); err != nil {
		return err
	}
	if err := lockDir(dir); err != nil {
		return err
	}
	if err := redirectStderr(o.logFile); err != nil {
		return err
	}
	token, err := keptToken(filepath.Join(dir, "tokens.csv"))
	if err != nil {
		return err
	}
	saKey := filepath.Join(dir, "service-account.key")
	if err := keptKey(saKey); err != nil {
		return err
	}
	port, err := choosePort(bind, o.port, filepath.Join(dir, "port"))
	if err != nil {
		return err
	}

	// Before etcd, because this installs the handlers of SIGTERM and SIGINT.
	command := app.NewAPIServerCommand()
	if o.exitWithStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			genericapiserver.RequestShutdown()
		}()
	}

	etcd, err := startEtcd(filepath.Join(dir, "etcd"))
	if err != nil {
		return err
	}
	// Not Close: that is graceful towards clients for two seconds, and there are none. The store is safe either way.
	defer etcd.Server.HardStop()
	go compactOnSignal(etcd)

	reached := bind
	if bind.IsUnspecified() {
		reached = net.IPv4(127, 0, 0, 1)
		if bind.To4() == nil {
			reached = net.IPv6loopback
		}
	}
	serviceRange := "10.96.0.0/16"
	if reached.To4() == nil {
		serviceRange = "fd00:10:96::/112"
	}
	command.SetArgs(append([]string{
		"--etcd-servers=http://" + etcd.Clients[0].Addr().String(),
		"--bind-address=" + o.bindAddress,
		"--advertise-address=" + reached.String(),
		"--endpoint-reconciler-type=none",
		"--secure-port=" + strconv.Itoa(port.number),
		"--permit-port-sharing=" + strconv.FormatBool(port.reserved),
		"--cert-dir=" + certDir,
		"--service-cluster-ip-range=" + serviceRange,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + saKey,
		"--service-account-signing-key-file=" + saKey,
		"--token-auth-file=" + filepath.Join(dir, "tokens.csv"),
		"--authorization-mode=RBAC",
		// No controller makes the default service accounts, so pods must do without.
		"--disable-admission-plugins=ServiceAccount",
		"--allow-privileged=true",
		// Without it, stopping waits for open watches, up to a minute.
		"--shutdown-watch-termination-grace-period=1s",
	}, o.apiserverArgs...))
	command.SilenceErrors = true

	serverURL := "https://" + net.JoinHostPort(reached.String(), strconv.Itoa(port.number))
	served := make(chan error, 1)
	go func() { served <- command.Execute() }()
	ready := make(chan error, 1)
	go func() { ready <- announce(serverURL, token, certDir, dir) }()
	select {
	case err := <-served:
		return err // nil when a signal came before it was ready
	case err := <-ready:
		if err != nil {
			return err
		}
		return <-served
	}
}

// lockDir holds an exclusive lock for the life of the process; without it a second process would wait for etcd's lock without end.
func lockDir(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, "lock"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("--dir %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("--dir %s is in use by another process; stop it or choose another directory", dir)
	}
	return nil
}

// redirectStderr replaces the descriptor itself, so that panics of the runtime land in the file too.
func redirectStderr(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("--log-file: %w", err)
	}
	return unix.Dup3(int(file.Fd()), 2, 0)
}

// keptToken returns the administrator's bearer token, from the file if an earlier run wrote one.
func keptToken(path string) (string, error) {
	if text, err := os.ReadFile(path); err == nil {
		if token, _, found := strings.Cut(string(text), ","); found && token != "" {
			return token, nil
		}
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	token := hex.EncodeToString(raw)
	return token, writeAtomically(path, []byte(token+",admin,admin,\"system:masters\"\n"))
}

func keptKey(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writeAtomically(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

type chosenPort struct {
	number   int
	reserved bool // a bound socket of ours holds it
}

// choosePort finds a port for a server that cannot be given a listener and refuses port 0. A port from the kernel is
// held by a bound socket that never listens, until the process ends, so that no other process can be given it in
// between. Both sockets set SO_REUSEPORT for that; connections only ever reach the one that listens.
func choosePort(bind net.IP, wanted int, memory string) (chosenPort, error) {
	if wanted != 0 {
		return chosenPort{number: wanted}, nil
	}
	if text, err := os.ReadFile(memory); err == nil {
		if last, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			if probe, err := net.ListenTCP("tcp", &net.TCPAddr{IP: bind, Port: last}); err == nil {
				return chosenPort{number: last}, probe.Close()
			}
		}
	}
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: [16]byte(bind.To16())})
	if v4 := bind.To4(); v4 != nil {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(v4)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return chosenPort{}, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return chosenPort{}, err
	}
	if err := unix.Bind(fd, address); err != nil {
		return chosenPort{}, fmt.Errorf("--bind-address %s: %w", bind, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return chosenPort{}, err
	}
	port := 0
	switch bound := name.(type) {
	case *unix.SockaddrInet4:
		port = bound.Port
	case *unix.SockaddrInet6:
		port = bound.Port
	}
	return chosenPort{number: port, reserved: true}, writeAtomically(memory, []byte(strconv.Itoa(port)+"\n"))
}

func startEtcd(dir string) (*embed.Etcd, error) {
	config := embed.NewConfig()
	config.Dir = dir
	config.LogLevel = "warn"
	// On another port after each restart: nothing outside this process talks to it.
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config.ListenClientUrls, config.AdvertiseClientUrls = anyPort, anyPort
	config.ListenPeerUrls, config.AdvertisePeerUrls = anyPort, anyPort
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true // survives the death of the process, not of the machine: enough for a test
	config.QuotaBackendBytes = 8 << 30
	config.WatchProgressNotifyInterval = 5 * time.Second // the source of bookmarks
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("etcd in %s: %w", dir, err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, fmt.Errorf("etcd in %s: %w", dir, err)
	case <-time.After(startDeadline):
		return nil, fmt.Errorf("etcd in %s: not ready after %s", dir, startDeadline)
	}
}

// compactOnSignal drops all history of etcd at SIGUSR1. Two writes come first, so that every revision that a client
// can have seen is older than the compaction and gets "410 Gone" wherever the API server has to ask etcd.
func compactOnSignal(etcd *embed.Etcd) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGUSR1)
	client := v3client.New(etcd.Server)
	for range signals {
		revision, err := compact(client)
		if err != nil {
			fmt.Printf("COMPACT-FAILED %q\n", err.Error())
			continue
		}
		fmt.Printf("COMPACTED {\"revision\": %d}\n", revision)
	}
}

func compact(client *clientv3.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var revision int64
	for range 2 {
		put, err := client.Put(ctx, "/sedge-compaction", "")
		if err != nil {
			return 0, err
		}
		revision = put.Header.Revision
	}
	_, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical())
	return revision, err
}

// announce waits until the server is ready and its namespaces are made, writes the kubeconfig and prints READY.
func announce(serverURL, token, certDir, dir string) error {
	deadline := time.Now().Add(startDeadline)
	for {
		caPem, err := os.ReadFile(filepath.Join(certDir, "apiserver.crt"))
		if err == nil {
			err = errors.Join(expectOK(serverURL+"/readyz", token, caPem), expectOK(serverURL+"/api/v1/namespaces/default", token, caPem))
		}
		if err == nil {
			path := filepath.Join(dir, "kubeconfig")
			if err := writeAtomically(path, kubeconfig(serverURL, token, caPem)); err != nil {
				return err
			}
			line, err := json.Marshal(map[string]string{"kubeconfig": path, "url": serverURL})
			if err != nil {
				return err
			}
			fmt.Printf("READY %s\n", line)
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not ready after %s: %w", serverURL, startDeadline, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func expectOK(target, token string, caPem []byte) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(caPem)
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
	}
	request, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", target, response.Status)
	}
	return nil
}

func kubeconfig(serverURL, token string, caPem []byte) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: test
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: admin
  user:
    token: %s
contexts:
- name: test
  context:
    cluster: test
    user: admin
current-context: test
`, serverURL, base64.StdEncoding.EncodeToString(caPem), token)
}

// writeAtomically never leaves half a file for a run that follows a SIGKILL.
func writeAtomically(path string, content []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
