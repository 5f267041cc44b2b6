// The loads that wrk does not have. One thread, one epoll, loopback only; each ends by itself and prints one JSON line.
//
//   load tcp PORT CONNECTIONS BYTES SECONDS          ping-pong: each connection sends a message, awaits its echo, again
//   load udp PORT SOCKETS WINDOW BYTES SECONDS       closed loop: WINDOW datagrams under way on each socket
//   load udp-runs PORT SOCKETS BYTES SECONDS         open loop, flat out: runs of 32 datagrams in one message (UDP_SEGMENT)
//                                                    from one socket after the other
//   load idle PORT CONNECTIONS PATH                  one GET on each connection, then nothing; holds them until its
//                                                    standard input ends (at most ten minutes)
//   load tunnel PORT SOURCE CONNECTIONS SECONDS HOW  takes MiB from SOURCE through PORT, after a CONNECT where HOW is
//                                                    `connect`, without one where it is `plain`
//   load files PORT CONNECTIONS < LIST               fetches each file of the list once, in its order; a line is the
//                                                    file's number, which is its name, and its bytes
//
// What an echo brings back is compared with what must come back: the same bytes in upper case. A
// file of `files` has to hold its number over and over, in seven digits and a line feed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BATCH = 64, PIECE = 256 << 10, STEPS = 16, SLOTS = 64 * STEPS, LOST_NS = 100 * 1000 * 1000 };

static uint64_t done, lost, errors, histogram[SLOTS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// Powers of two in sixteen steps each: six percent.
static void record(uint64_t ns) {
    int power = ns < STEPS ? 0 : 60 - __builtin_clzll(ns); // 1: 16 to 31, by ones
    histogram[power * STEPS + (power ? ns >> (power - 1) : ns) % STEPS]++;
    done++;
}

static double quantile_us(double q) {
    uint64_t want = q * done, seen = 0;
    for (int i = 0; i < SLOTS; i++)
        if ((seen += histogram[i]) > want) {
            int power = i / STEPS;
            return (power ? (uint64_t)(STEPS + i % STEPS) << (power - 1) : (uint64_t)i) / 1e3;
        }
    return 0;
}

static int connected(int type, int port) {
    int fd = socket(AF_INET, type, 0), one = 1, size = 4 << 20;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    if (type == SOCK_STREAM) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void watch(int ep, int fd, uint32_t events, uint32_t number) {
    struct epoll_event e = {.events = events, .data.u32 = number};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) fail("epoll_ctl");
}

static void report(uint64_t bytes, double seconds) {
    printf("{\"operations\":%lu,\"bytes\":%lu,\"seconds\":%.4f,\"errors\":%lu,\"lost\":%lu,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
           done, done * bytes, seconds, errors, lost, quantile_us(.5), quantile_us(.99));
}

// ---- tcp

struct stream {
    int fd;
    size_t sent, received;
    uint64_t began;
};

// Sends and receives what it can; messages follow one another as long as `going`.
static void exchange(struct stream *s, const char *message, const char *answer, size_t bytes, int going) {
    static char piece[PIECE];
    for (;;) {
        ssize_t n = 0;
        if (s->sent < bytes && (n = send(s->fd, message + s->sent, bytes - s->sent, MSG_NOSIGNAL)) > 0) s->sent += n;
        if (n < 0 && errno != EAGAIN) fail("send");
        n = recv(s->fd, piece, sizeof piece, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) errors++, fail("recv");
        if (n < 0) return;
        size_t want = bytes - s->received, check = (size_t)n < want ? (size_t)n : want;
        errors += (size_t)n > want || memcmp(piece, answer + s->received, check) != 0;
        s->received += check;
        if (s->received < bytes) continue;
        uint64_t now = now_ns();
        record(now - s->began);
        if (!going) return;
        s->sent = s->received = 0, s->began = now;
    }
}

static void tcp(int port, int count, size_t bytes, double seconds) {
    int ep = epoll_create1(0);
    struct stream *streams = calloc(count, sizeof *streams);
    char *message = malloc(bytes), *answer = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) message[i] = 'a' + i % 26, answer[i] = 'A' + i % 26;
    for (int i = 0; i < count; i++) streams[i].fd = connected(SOCK_STREAM, port);
    uint64_t start = now_ns(), stop = start + seconds * 1e9;
    for (int i = 0; i < count; i++) {
        streams[i].began = now_ns();
        watch(ep, streams[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, i);
    }
    struct epoll_event ev[EVENTS];
    while (now_ns() < stop) {
        int n = epoll_wait(ep, ev, EVENTS, 100);
        for (int i = 0; i < n; i++) exchange(&streams[ev[i].data.u32], message, answer, bytes, 1);
    }
    report(bytes, (now_ns() - start) / 1e9);
}

// ---- udp

enum { WINDOW_MAX = 64 };

// A datagram is the number of its slot, the number of its use and letters.
struct slot {
    uint32_t use;
    uint64_t sent;    // 0: free
};

struct socket {
    int fd;
    struct slot slots[WINDOW_MAX];
};

static struct mmsghdr messages[BATCH];
static struct iovec runs[BATCH];
static char space[BATCH][2048];

static void send_free(struct socket *s, int window, size_t bytes) {
    int n = 0, used[BATCH];
    uint64_t now = now_ns();
    for (int i = 0; i < window; i++) {
        if (s->slots[i].sent && now - s->slots[i].sent < LOST_NS) continue;
        lost += s->slots[i].sent != 0;
        s->slots[i] = (struct slot){s->slots[i].use + 1, now};
        snprintf(space[n], sizeof *space, "%04d %08x", i, s->slots[i].use);
        memset(space[n] + 13, 'p', bytes - 13);
        runs[n].iov_len = bytes;
        used[n++] = i;
    }
    for (int at = 0; at < n;) {
        int sent = sendmmsg(s->fd, messages + at, n - at, MSG_DONTWAIT);
        if (sent > 0) at += sent;
        else while (at < n) s->slots[used[at++]].sent = 0;
    }
}

static void receive(struct socket *s, size_t bytes) {
    for (int n = BATCH; n == BATCH;) {
        for (int i = 0; i < BATCH; i++) runs[i].iov_len = sizeof *space;
        n = recvmmsg(s->fd, messages, BATCH, MSG_DONTWAIT, 0);
        uint64_t now = now_ns();
        for (int i = 0; i < n; i++) {
            char *end, *text = space[i];
            text[sizeof *space - 1] = 0;
            unsigned long slot = strtoul(text, &end, 10), use = strtoul(end, 0, 16);
            if (messages[i].msg_len != bytes || slot >= WINDOW_MAX || text[bytes - 1] != 'P') {
                errors++;
            } else if (s->slots[slot].use == use && s->slots[slot].sent) {
                record(now - s->slots[slot].sent);
                s->slots[slot].sent = 0;
            }
        }
    }
}

static void udp(int port, int count, int window, size_t bytes, double seconds) {
    int ep = epoll_create1(0);
    struct socket *sockets = calloc(count, sizeof *sockets);
    for (int i = 0; i < BATCH; i++) {
        runs[i].iov_base = space[i];
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &runs[i], .msg_iovlen = 1};
    }
    for (int i = 0; i < count; i++) watch(ep, sockets[i].fd = connected(SOCK_DGRAM, port), EPOLLIN, i);
    uint64_t start = now_ns(), stop = start + seconds * 1e9, swept = start, now;
    for (int i = 0; i < count; i++) send_free(&sockets[i], window, bytes);
    struct epoll_event ev[EVENTS];
    while ((now = now_ns()) < stop) {
        int n = epoll_wait(ep, ev, EVENTS, 20);
        for (int i = 0; i < n; i++) {
            receive(&sockets[ev[i].data.u32], bytes);
            send_free(&sockets[ev[i].data.u32], window, bytes);
        }
        if (now - swept > 50000000) {
            swept = now;
            for (int i = 0; i < count; i++) send_free(&sockets[i], window, bytes);
        }
    }
    report(bytes, (now - start) / 1e9);
}

// Takes answers that have come, several in a message where they came so (UDP_GRO). A datagram begins with when it was sent.
static void take_runs(int fd, size_t bytes) {
    static struct mmsghdr in[BATCH];
    static struct iovec run[BATCH];
    static char room[BATCH][65536];
    for (int n = BATCH; n == BATCH;) {
        for (int i = 0; i < BATCH; i++) {
            run[i] = (struct iovec){room[i], sizeof *room};
            in[i].msg_hdr = (struct msghdr){.msg_iov = &run[i], .msg_iovlen = 1};
        }
        n = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, 0);
        uint64_t now = now_ns();
        for (int i = 0; i < n; i++)
            for (char *at = room[i], *end = at + in[i].msg_len; at < end; at += bytes) {
                uint64_t sent = 0;
                for (int j = 0; j < 16; j++) sent = sent << 4 | ((at[j] - 'A') & 15);
                if ((size_t)(end - at) < bytes || at[bytes - 1] != 'P') { errors++; break; }
                record(now - sent);
            }
    }
}

static void udp_runs(int port, int count, size_t bytes, double seconds) {
    enum { RUN = 32 };
    int fds[64], segment = bytes, one = 1;
    char message[RUN * 2048];
    memset(message, 'p', sizeof message);
    for (int i = 0; i < count; i++) {
        fds[i] = connected(SOCK_DGRAM, port);
        if (setsockopt(fds[i], SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) ||
            setsockopt(fds[i], SOL_UDP, UDP_GRO, &one, sizeof one)) fail("UDP_SEGMENT");
    }
    uint64_t start = now_ns(), stop = start + seconds * 1e9, sent = 0, now;
    for (int i = 0; (now = now_ns()) < stop; i = (i + 1) % count) {
        for (int j = 0; j < RUN; j++)
            for (int k = 0; k < 16; k++) message[j * bytes + k] = 'A' + (now >> (60 - 4 * k) & 15);
        if (send(fds[i], message, RUN * bytes, MSG_DONTWAIT) > 0) sent += RUN;
        take_runs(fds[i], bytes);
    }
    for (uint64_t end = now + 200000000; now_ns() < end;)
        for (int i = 0; i < count; i++) take_runs(fds[i], bytes);
    lost = sent - done;
    report(bytes, (now - start) / 1e9);
}

// ---- idle

static void idle(int port, int count, const char *path) {
    char request[512], piece[65536];
    int *fds = calloc(count, sizeof *fds);
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);
    for (int i = 0; i < count; i++) {
        fds[i] = connected(SOCK_STREAM, port);
        struct pollfd p = {.fd = fds[i], .events = POLLIN};
        if (send(fds[i], request, len, MSG_NOSIGNAL) != len || poll(&p, 1, 5000) != 1 || recv(fds[i], piece, sizeof piece, 0) <= 0)
            errors++;
    }
    printf("{\"held\":%d,\"errors\":%lu}\n", count, errors);
    fflush(stdout);
    alarm(600);
    while (read(0, piece, sizeof piece) > 0) {}
    // Which of them are still open?
    int open = 0;
    for (int i = 0; i < count; i++) open += recv(fds[i], piece, sizeof piece, 0) < 0 && errno == EAGAIN;
    printf("{\"still_open\":%d}\n", open);
}

// ---- tunnel

// Asks for a tunnel, a byte at a time: what follows the head is the tunnel's.
static void ask_for_tunnel(int fd, int source) {
    char head[4096];
    int len = snprintf(head, sizeof head, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", source, source);
    if (send(fd, head, len, MSG_NOSIGNAL) != len) fail("send");
    for (len = 0; len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4); len++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (len == sizeof head || poll(&p, 1, 5000) != 1 || recv(fd, head + len, 1, 0) != 1) errno = EPROTO, fail("CONNECT");
    }
    if (memcmp(head + 9, "200", 3)) fprintf(stderr, "CONNECT: %.40s\n", head), exit(1);
}

// Nothing is copied out of the kernel: it is the proxy that is measured.
static void tunnel(int port, int source, int count, double seconds, int connects) {
    struct pollfd *p = calloc(count, sizeof *p);
    for (int i = 0; i < count; i++) {
        p[i] = (struct pollfd){.fd = connected(SOCK_STREAM, port), .events = POLLIN};
        if (connects) ask_for_tunnel(p[i].fd, source);
    }
    uint64_t bytes = 0, start = now_ns(), stop = start + seconds * 1e9;
    while (now_ns() < stop) {
        poll(p, count, 100);
        for (int i = 0; i < count; i++) {
            if (!p[i].revents) continue;
            ssize_t n = recv(p[i].fd, 0, 4 << 20, MSG_TRUNC);
            if (n > 0) bytes += n;
            if (n == 0 || (n < 0 && errno != EAGAIN)) errors++, p[i].fd = -1;
        }
    }
    done = bytes >> 20;
    report(1 << 20, (now_ns() - start) / 1e9);
}

// ---- files

enum { MARK = 8, HEAD = 4096 };

struct fetch {
    int fd, number;
    char head[HEAD], mark[MARK + 1];
    size_t head_bytes, bytes, received;    // of the head's buffer; of the body
    uint64_t began;
};

// Asks for the next file of the list, if there is one.
static int ask(struct fetch *f) {
    char request[128];
    if (scanf("%d %zu", &f->number, &f->bytes) != 2) return 0;
    f->head_bytes = f->received = 0, f->began = now_ns();
    snprintf(f->mark, sizeof f->mark, "%07d\n", f->number);
    int len = snprintf(request, sizeof request, "GET /%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", f->number);
    if (send(f->fd, request, len, MSG_NOSIGNAL) != len) fail("send");
    return 1;
}

static void check(struct fetch *f, const char *data, size_t n) {
    int wrong = f->received + n > f->bytes;
    for (size_t i = 0; i < n && i < MARK; i++) wrong |= data[i] != f->mark[(f->received + i) % MARK];
    errors += wrong || (n > MARK && memcmp(data, data + MARK, n - MARK));
    f->received += n;
}

// The body's beginning within the head's buffer, once the head is whole.
static char *body(struct fetch *f) {
    char *end = memmem(f->head, f->head_bytes, "\r\n\r\n", 4), *length;
    if (!end && f->head_bytes < HEAD - 1) return 0;
    f->head[f->head_bytes] = 0;
    length = strcasestr(f->head, "\r\nContent-Length:");
    if (!end || strncmp(f->head, "HTTP/1.1 200 ", 13) || !length || strtoul(length + 17, 0, 10) != f->bytes) {
        fprintf(stderr, "/%d: not what was asked for: %.200s\n", f->number, f->head);
        exit(1);
    }
    return end + 4;
}

// Receives what there is. Whether this connection has still something to do.
static int take(struct fetch *f, uint64_t *total) {
    static char piece[PIECE];
    for (int in_body = f->received > 0;;) {
        ssize_t n = in_body ? recv(f->fd, piece, PIECE, 0) : recv(f->fd, f->head + f->head_bytes, HEAD - 1 - f->head_bytes, 0);
        if (n < 0 && errno == EAGAIN) return 1;
        if (n <= 0) fail("recv");
        if (in_body) {
            check(f, piece, n);
        } else {
            f->head_bytes += n;
            char *start = body(f);
            if (!start) continue;
            check(f, start, f->head + f->head_bytes - start);
            in_body = 1;
        }
        if (f->received < f->bytes) continue;
        *total += f->received;
        record(now_ns() - f->began);
        if (!ask(f)) return 0;
        in_body = 0;
    }
}

static void files(int port, int count) {
    int ep = epoll_create1(0), busy = 0;
    struct fetch *fetches = calloc(count, sizeof *fetches);
    uint64_t total = 0, start = now_ns();
    alarm(120);
    for (int i = 0; i < count; i++) {
        fetches[i].fd = connected(SOCK_STREAM, port);
        if (!ask(&fetches[i])) break;
        busy++;
        watch(ep, fetches[i].fd, EPOLLIN | EPOLLET, i);
    }
    for (struct epoll_event ev[EVENTS]; busy;) {
        int n = epoll_wait(ep, ev, EVENTS, 100);
        for (int i = 0; i < n; i++) busy -= !take(&fetches[ev[i].data.u32], &total);
    }
    printf("{\"operations\":%lu,\"bytes\":%lu,\"seconds\":%.4f,\"errors\":%lu,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", done, total,
           (now_ns() - start) / 1e9, errors, quantile_us(.5), quantile_us(.99));
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "tcp")) {
        tcp(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
    } else if (argc == 7 && !strcmp(argv[1], "udp") && atoi(argv[4]) <= WINDOW_MAX && atoi(argv[5]) >= 16 && atoi(argv[5]) < 2048) {
        udp(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), atof(argv[6]));
    } else if (argc == 6 && !strcmp(argv[1], "udp-runs") && atoi(argv[3]) <= 64 && atoi(argv[4]) >= 17 && atoi(argv[4]) < 2000) {
        udp_runs(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
    } else if (argc == 5 && !strcmp(argv[1], "idle")) {
        idle(atoi(argv[2]), atoi(argv[3]), argv[4]);
    } else if (argc == 7 && !strcmp(argv[1], "tunnel")) {
        tunnel(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atof(argv[5]), !strcmp(argv[6], "connect"));
    } else if (argc == 4 && !strcmp(argv[1], "files")) {
        files(atoi(argv[2]), atoi(argv[3]));
    } else {
        fprintf(stderr, "usage: load tcp PORT CONNECTIONS BYTES SECONDS\n"
                        "       load udp PORT SOCKETS WINDOW(1..64) BYTES(16..2047) SECONDS\n"
                        "       load udp-runs PORT SOCKETS(1..64) BYTES(17..1999) SECONDS\n"
                        "       load idle PORT CONNECTIONS PATH\n"
                        "       load tunnel PORT SOURCE CONNECTIONS SECONDS connect|plain\n"
                        "       load files PORT CONNECTIONS < LIST\n");
        return 2;
    }
    return errors != 0;
}
