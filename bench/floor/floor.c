/*
 * floor: the least that a daemon of this kind can do, to be measured against.
 *
 *   handoff socket --accept4, recvmsg--> client socket --epoll: hangups only
 *                                            ^
 *            FIFO of streams by due time --send--> one shared buffer: head, events, [DONE]
 *
 * One thread, raw epoll, no timeouts, no metrics, no backpressure, and the payload is not looked at. What it does do,
 * because nothing that serves streams can leave it out: both kinds of handoff socket, the daemon's socket options, the
 * schedule, and noticing that a client has gone.
 *
 * A client that does not take an event at once is closed (no backpressure), unless -demo-delay is 0, where the stream
 * goes as fast as the client reads.
 *
 * The syscalls of one stream of N events over a seqpacket socket:
 *
 *   accept4, recvmsg, close        the handoff
 *   setsockopt x 2                 TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT, as the daemon
 *   epoll_ctl                      to hear of a hangup
 *   send x N                       the head goes with the first event, [DONE] with the last; one for the events that are
 *                                  due at the same wake-up
 *   close                          epoll forgets the descriptor by itself
 *
 * and a share of an epoll_wait: one per batch. Over a stream socket a second recvmsg finds its end; when the sender is
 * still busy, epoll_ctl and a third one.
 *
 * The bytes come from the harness at compile time: -DHEAD, -DEVENT and -DDONE.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if !defined(HEAD) || !defined(EVENT) || !defined(DONE)
#error "compile with -DHEAD, -DEVENT and -DDONE"
#endif

enum {
	batch_max = 512,          /* as the daemon */
	accepts_per_turn = 64,    /* a burst of handoffs must not starve the streams */
	payload_max = 256 * 1024, /* above what the kernel lets through in one message: 212,960 bytes */
	notsent_lowat = 16384,    /* bytes; as the daemon */
	user_timeout_ms = 30000,  /* as the daemon */
	fds_per_message = 8,
};

/* kind: what a descriptor is to us; closed must be 0. */
enum kind { closed, listener, handoff, client };

/* One per descriptor, in a table by number: 32 bytes, two to a cache line. */
struct entry {
	int64_t due_ns;      /* client: when the next event is due */
	int32_t next, prev;  /* client: its place in the FIFO; -1 at an end */
	uint32_t sent;       /* client: bytes of the stream that the kernel has */
	uint32_t generation; /* counts the uses of the number: readiness for an earlier one is void */
	int32_t passed;      /* handoff: the client socket that has come, or -1 */
	uint8_t kind;
	uint8_t queued;      /* client: in the FIFO */
	uint8_t seqpacket;   /* listener: its type */
};
_Static_assert(sizeof(struct entry) == 32, "entry");

static struct entry *entries;
static int epoll_fd;
static int32_t fifo_head = -1, fifo_tail = -1;
static char *stream_bytes; /* head, events, [DONE], back to back: a stream is a position in it */
static size_t stream_len;
static char payload[payload_max];

/* the flags */
static int64_t delay_ns = 50 * 1000000;
static int64_t coalesce_ns = 4 * 1000000; /* see wait_for */
static long messages = 19;
static const char *stream_path = "", *seqpacket_path = "";

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void watch(int fd, uint32_t readiness)
{
	struct epoll_event ev = {.events = readiness};
	ev.data.u64 = (uint64_t)entries[fd].generation << 32 | (uint32_t)fd;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
}

static struct entry *use(int fd, enum kind kind)
{
	struct entry *e = &entries[fd];
	e->generation++;
	e->kind = kind;
	e->queued = 0;
	e->sent = 0;
	e->passed = -1;
	return e;
}

/* ---- the FIFO: every stream has the same delay, so appending keeps it sorted ---- */

static void fifo_append(int fd)
{
	struct entry *e = &entries[fd];
	e->next = -1;
	e->prev = fifo_tail;
	if (fifo_tail >= 0)
		entries[fifo_tail].next = fd;
	else
		fifo_head = fd;
	fifo_tail = fd;
	e->queued = 1;
}

static void fifo_remove(int fd)
{
	struct entry *e = &entries[fd];
	if (!e->queued)
		return;
	if (e->prev >= 0)
		entries[e->prev].next = e->next;
	else
		fifo_head = e->next;
	if (e->next >= 0)
		entries[e->next].prev = e->prev;
	else
		fifo_tail = e->prev;
	e->queued = 0;
}

/* ---- streams ---- */

static void client_close(int fd)
{
	fifo_remove(fd);
	entries[fd].kind = closed;
	close(fd);
}

/* Where the stream stands when its next event has been sent: the last one takes [DONE] with it. */
static size_t after_next(uint32_t sent)
{
	size_t head = sizeof HEAD - 1, event = sizeof EVENT - 1;
	size_t to = (sent == 0 ? head : sent) + event;
	if (delay_ns == 0 || to + sizeof DONE - 1 >= stream_len)
		return stream_len;
	return to;
}

/*
 * Sends the next event, with those that have come due since, in one write as the daemon does. Leaves the stream in the
 * FIFO, waiting for EPOLLOUT, or closed.
 */
static void client_step(int fd, int64_t due_ns, int64_t now)
{
	struct entry *e = &entries[fd];
	size_t to = after_next(e->sent);
	while (to < stream_len && due_ns + delay_ns <= now) {
		to = after_next(to);
		due_ns += delay_ns;
	}
	size_t len = to - e->sent;
	ssize_t n = send(fd, stream_bytes + e->sent, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == (ssize_t)len) {
		e->sent += n;
		if (e->sent == stream_len) {
			client_close(fd);
			return;
		}
		e->due_ns = due_ns + delay_ns;
		fifo_append(fd);
		return;
	}
	if (delay_ns != 0 || (n < 0 && errno != EAGAIN)) {
		client_close(fd);
		return;
	}
	if (n > 0) {
		e->sent += n;
		client_step(fd, due_ns, now); /* until EAGAIN: only then does an edge follow */
	}
}

static void client_start(int fd, int64_t now)
{
	int lowat = notsent_lowat, timeout = user_timeout_ms;
	use(fd, client);
	/* ENOPROTOOPT on a Unix socket: fine */
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
	client_step(fd, now, now);
	if (entries[fd].kind != client)
		return;
	/* No EPOLLIN: what a client sends is not our business. Edge-triggered EPOLLOUT costs nothing until it blocks. */
	watch(fd, EPOLLRDHUP | EPOLLET | (delay_ns == 0 ? EPOLLOUT : 0));
}

static void run_due(int64_t now)
{
	while (fifo_head >= 0 && entries[fifo_head].due_ns <= now) {
		int fd = fifo_head;
		fifo_remove(fd);
		client_step(fd, entries[fd].due_ns, now);
	}
}

/* ---- handoffs ---- */

/* Receives until the handoff is complete; returns 1 when it is over, one way or the other. */
static int handoff_receive(int fd, int seqpacket, int32_t *passed)
{
	for (int ends = 0;;) {
		union {
			char bytes[CMSG_SPACE(fds_per_message * sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = {payload, sizeof payload};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
		ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0)
			return errno != EAGAIN;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
			if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
				continue;
			int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			for (int i = 0; i < count; i++) {
				int got;
				memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof got);
				if (*passed < 0)
					*passed = got;
				else
					close(got);
			}
		}
		/*
		 * The first end of a seqpacket socket may be none: the kernel looks at the queue, finds it empty, the sender
		 * sends and closes, and only then the kernel looks whether the sender has closed. The message is there at the
		 * second call. Seen once in 3,500 when sender and receiver meet on purpose, once in 450,000 handoffs here.
		 */
		if (n == 0 && seqpacket && *passed < 0 && ends++ == 0)
			continue;
		if (n == 0 || seqpacket)
			return 1;
		if (*passed < 0) /* first bytes without a descriptor */
			return 1;
	}
}

static void handoff_end(int fd, int passed, int64_t now)
{
	entries[fd].kind = closed;
	close(fd);
	if (passed >= 0)
		client_start(passed, now);
}

static void accept_some(int lfd, int64_t now)
{
	for (int i = 0; i < accepts_per_turn; i++) {
		int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (errno == EAGAIN || errno == ECONNABORTED)
				return;
			die("accept4");
		}
		int32_t passed = -1;
		int seqpacket = entries[lfd].seqpacket;
		if (handoff_receive(fd, seqpacket, &passed)) {
			close(fd);
			if (passed >= 0)
				client_start(passed, now);
			continue;
		}
		struct entry *e = use(fd, handoff);
		e->passed = passed;
		e->seqpacket = seqpacket;
		watch(fd, EPOLLIN);
	}
}

static void listen_on(const char *path, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (!*path)
		return;
	if (strlen(path) >= sizeof a.sun_path) {
		fprintf(stderr, "floor: path too long: %s\n", path);
		exit(1);
	}
	strcpy(a.sun_path, path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		die("socket");
	unlink(path);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0)
		die(path);
	if (listen(fd, 65535) < 0) /* cut to somaxconn by the kernel */
		die("listen");
	use(fd, listener)->seqpacket = type == SOCK_SEQPACKET;
	watch(fd, EPOLLIN);
}

/* ---- the loop ---- */

/*
 * How long to wait. Streams that are due within the same few milliseconds share a wake-up: the due time is rounded up
 * to a multiple of coalesce_ns, the daemon's tick. With -coalesce 0 each due time has a wake-up of its own; that was the
 * other design tried here, and it is the dearer one: 10.4 µs CPU per event against 5.0, at 18,000 TCP streams with an
 * event per second each (medians of three, two CPUs, Linux 6.18). A timerfd would cost a read and a settime per wake-up,
 * which the timeout of epoll_pwait2 does not.
 */
static void wait_for(int64_t now, struct timespec *t)
{
	int64_t at = entries[fifo_head].due_ns;
	if (coalesce_ns > 0)
		at = (at + coalesce_ns - 1) / coalesce_ns * coalesce_ns;
	int64_t ns = at > now ? at - now : 0;
	t->tv_sec = ns / 1000000000;
	t->tv_nsec = ns % 1000000000;
}

static volatile sig_atomic_t stopping;
static void on_signal(int s) { (void)s; stopping = 1; }

static void handle(struct epoll_event *ev, int64_t now)
{
	int fd = (int)(uint32_t)ev->data.u64;
	struct entry *e = &entries[fd];
	if (e->generation != ev->data.u64 >> 32)
		return;
	switch (e->kind) {
	case listener:
		accept_some(fd, now);
		break;
	case handoff:
		if (handoff_receive(fd, e->seqpacket, &e->passed))
			handoff_end(fd, e->passed, now);
		break;
	case client:
		if (ev->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			client_close(fd);
		else if (delay_ns == 0 && (ev->events & EPOLLOUT))
			client_step(fd, now, now);
		break;
	}
}

static void run(void)
{
	static struct epoll_event batch[batch_max];
	while (!stopping) {
		struct timespec t, *timeout = NULL;
		if (fifo_head >= 0) {
			wait_for(now_ns(), &t);
			timeout = &t;
		}
		int n = epoll_pwait2(epoll_fd, batch, batch_max, timeout, NULL);
		if (n < 0 && errno != EINTR)
			die("epoll_pwait2");
		int64_t now = now_ns();
		run_due(now); /* before the handoffs: what they append is due later */
		for (int i = 0; i < n; i++)
			handle(&batch[i], now);
	}
}

static void build_stream(void)
{
	stream_len = sizeof HEAD - 1 + (sizeof EVENT - 1) * (size_t)messages + sizeof DONE - 1;
	if (stream_len > UINT32_MAX) {
		fprintf(stderr, "floor: -demo-messages is too large\n");
		exit(1);
	}
	char *p = stream_bytes = malloc(stream_len);
	if (!p)
		die("malloc");
	p = mempcpy(p, HEAD, sizeof HEAD - 1);
	for (long i = 0; i < messages; i++)
		p = mempcpy(p, EVENT, sizeof EVENT - 1);
	memcpy(p, DONE, sizeof DONE - 1);
}

/* A duration as Go prints it: 1m30s, 250ms, 50us. */
static int64_t parse_duration(const char *s)
{
	double total = 0;
	while (*s) {
		char *end;
		double v = strtod(s, &end);
		if (end == s)
			break;
		s = end;
		if (!strncmp(s, "ms", 2)) { v *= 1e6; s += 2; }
		else if (!strncmp(s, "us", 2)) { v *= 1e3; s += 2; }
		else if (!strncmp(s, "\xc2\xb5s", 3)) { v *= 1e3; s += 3; }
		else if (!strncmp(s, "ns", 2)) { s += 2; }
		else if (*s == 'h') { v *= 3600e9; s++; }
		else if (*s == 'm') { v *= 60e9; s++; }
		else if (*s == 's') { v *= 1e9; s++; }
		total += v;
	}
	return (int64_t)total;
}

/* The flags of the daemon; those that mean nothing here are accepted, each with its value. */
static void parse_flags(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *name = argv[i], *value = argv[i + 1];
		while (*name == '-')
			name++;
		if (!strcmp(name, "socket"))
			stream_path = value;
		else if (!strcmp(name, "seqpacket-socket"))
			seqpacket_path = value;
		else if (!strcmp(name, "demo-delay"))
			delay_ns = parse_duration(value);
		else if (!strcmp(name, "demo-messages"))
			messages = atol(value);
		else if (!strcmp(name, "coalesce"))
			coalesce_ns = parse_duration(value);
	}
	if (messages < 1) {
		fprintf(stderr, "floor: -demo-messages must be at least 1: prompts are not looked at here\n");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	struct rlimit lim;
	struct sigaction sa = {.sa_handler = on_signal};
	parse_flags(argc, argv);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	entries = mmap(NULL, lim.rlim_cur * sizeof *entries, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (entries == MAP_FAILED)
		die("mmap");
	build_stream();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	listen_on(stream_path, SOCK_STREAM);
	listen_on(seqpacket_path, SOCK_SEQPACKET);
	run();
	unlink(stream_path);
	unlink(seqpacket_path);
	return 0;
}
