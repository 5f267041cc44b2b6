// The limits: the least that a server on epoll can do for the same answer, without a protocol, limits or time-outs.
//
//   bare http PORT    GET /SIZE is answered with SIZE bytes (128, 1024, 16384, 1048576); pipelining; Connection: close
//   bare tcp PORT     upper-cases what comes
//   bare udp PORT     upper-cases datagrams, received and sent 64 at a time
//   bare udp-joined PORT  the same; neighbouring answers of one length to one peer leave as one message (UDP_SEGMENT)
//   bare udp-runs PORT    the same; what came as one message (UDP_GRO) leaves as one
//
// Loopback only. Ends when killed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD = 16 << 10, PIECE = 256 << 10, INLINE = 4 << 10, BATCH = 64, DATAGRAM = 65536 + 192, BLOCK = 16 };

// One connection: for http the answer that is being sent, for tcp the bytes that the peer has not taken yet.
struct conn {
    int fd, close, in_len;
    int closing;           // the peer's end was told: a short read is no proof that there is nothing more
    size_t sent, len;      // of the answer, or of `rest`
    struct answer *answer;
    char *in, *rest;
};

struct answer {
    size_t size, head_len;
    char head[INLINE];     // with the body behind it where it is small
    int file;              // the body where it is not
};

static const size_t sizes[4] = {128, 1024, 16384, 1 << 20};
static struct answer answers[2][4];    // the second row: the last of its connection

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int bound(int type, int port) {
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail("bind");
    if (type == SOCK_STREAM && listen(fd, 4096)) fail("listen");
    return fd;
}

// In blocks, because gcc -O2 makes vector instructions of a loop only if it knows how often it runs.
static void upper(char *bytes, size_t len) {
    char *stop = bytes + len;
    for (; stop - bytes >= BLOCK; bytes += BLOCK)
        for (int i = 0; i < BLOCK; i++) bytes[i] -= (unsigned char)(bytes[i] - 'a') < 26 ? 32 : 0;
    for (; bytes < stop; bytes++) *bytes -= (unsigned char)(*bytes - 'a') < 26 ? 32 : 0;
}

static void end(struct conn *c) {
    close(c->fd);
    free(c->in);
    free(c->rest);
    free(c);
}

// ---- http

static void prepare_answers(void) {
    for (int i = 0; i < 8; i++) {
        struct answer *a = &answers[i / 4][i % 4];
        a->size = sizes[i % 4];
        a->head_len = snprintf(a->head, INLINE, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n"
                               "Content-Type: application/octet-stream\r\n%s\r\n", a->size,
                               i / 4 ? "Connection: close\r\n" : "");
        if (a->head_len + a->size <= INLINE) {
            memset(a->head + a->head_len, 'x', a->size);
            a->head_len += a->size;
            continue;
        }
        a->file = memfd_create("body", 0);
        if (a->file < 0 || ftruncate(a->file, a->size)) fail("memfd");
    }
}

// Sends the rest of the answer; 1 when done, 0 when the socket is full, -1 when it broke.
static int send_answer(struct conn *c) {
    struct answer *a = c->answer;
    size_t total = a->head_len + (a->file ? a->size : 0);
    while (c->sent < total) {
        ssize_t n;
        if (c->sent < a->head_len) {
            n = send(c->fd, a->head + c->sent, a->head_len - c->sent, MSG_NOSIGNAL | (a->file ? MSG_MORE : 0));
        } else {
            off_t at = c->sent - a->head_len;
            n = sendfile(c->fd, a->file, &at, total - c->sent);
        }
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        c->sent += n;
    }
    c->answer = 0;
    return 1;
}

// Answers every complete request in the buffer. Small answers to pipelined requests leave in one call.
static int answer_all(struct conn *c) {
    static char out[64 * INLINE];
    size_t queued = 0;
    char *at = c->in, *stop = c->in + c->in_len, *blank;
    while (!c->answer && (blank = memmem(at, stop - at, "\r\n\r\n", 4))) {
        size_t size = stop - at > 5 ? strtoul(at + 5, 0, 10) : 0;
        c->close |= memmem(at, blank - at, "Connection: close", 17) != 0;
        struct answer *a = &answers[c->close][size <= 128 ? 0 : size <= 1024 ? 1 : size <= 16384 ? 2 : 3];
        at = blank + 4;
        if (a->file || queued + a->head_len > sizeof out) {
            c->answer = a, c->sent = 0;
            break;
        }
        memcpy(out + queued, a->head, a->head_len);
        queued += a->head_len;
    }
    memmove(c->in, at, c->in_len = stop - at);
    // 256 KiB of answers fit into any send buffer that the kernel gives on loopback; if not, the connection is dropped.
    if (queued && send(c->fd, out, queued, MSG_NOSIGNAL) != (ssize_t)queued) return -1;
    return 1;
}

static int http(struct conn *c) {
    if (!c->in) c->in = malloc(HEAD + 1);
    for (int drained = 0;;) {
        if (c->answer) {
            int r = send_answer(c);
            if (r <= 0) return r;
            if (answer_all(c) < 0) return -1;
            continue;
        }
        if (c->close && !c->in_len) return -1;
        if (drained && !c->closing) return 0;
        ssize_t n = recv(c->fd, c->in + c->in_len, HEAD - c->in_len, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        drained = c->in_len + n < HEAD;
        c->in[c->in_len += n] = 0;
        if (answer_all(c) < 0) return -1;
    }
}

// ---- tcp echo

static int tcp(struct conn *c) {
    static char piece[PIECE];
    for (;;) {
        while (c->sent < c->len) {
            ssize_t n = send(c->fd, c->rest + c->sent, c->len - c->sent, MSG_NOSIGNAL);
            if (n < 0) return errno == EAGAIN ? 0 : -1;
            c->sent += n;
        }
        ssize_t n = recv(c->fd, piece, sizeof piece, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        upper(piece, n);
        ssize_t sent = send(c->fd, piece, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return -1;
        if (sent < 0) sent = 0;
        if (sent < n) {
            if (!c->rest) c->rest = malloc(PIECE);
            memcpy(c->rest, piece + sent, c->len = n - sent);
            c->sent = 0;
        } else if ((size_t)n < sizeof piece && !c->closing) {
            return 0;
        }
    }
}

static void streams(int port, int (*serve)(struct conn *)) {
    int ep = epoll_create1(0);
    struct conn listener = {.fd = bound(SOCK_STREAM, port)};
    struct epoll_event ev[EVENTS], e = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener.fd, &e);
    for (;;) {
        int n = epoll_wait(ep, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (c != &listener) {
                // Room, but nothing to send: so begins a connection that has not asked yet.
                if (ev[i].events == EPOLLOUT && !c->answer && c->sent >= c->len) continue;
                c->closing |= (ev[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
                if (serve(c) < 0) end(c);
                continue;
            }
            for (int fd; (fd = accept4(listener.fd, 0, 0, SOCK_NONBLOCK)) >= 0;) {
                c = calloc(1, sizeof *c);
                c->fd = fd;
                e = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
            }
        }
    }
}

// ---- udp

enum { PLAIN, JOINED, RUNS };

union control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

// Asks for segments of that length; says nothing if there is one only.
static void segment(struct msghdr *header, union control *control, uint16_t bytes, int several) {
    header->msg_control = several ? control : 0, header->msg_controllen = several ? CMSG_SPACE(sizeof bytes) : 0;
    if (!several) return;
    control->align = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof bytes)};
    memcpy(CMSG_DATA(&control->align), &bytes, sizeof bytes);
}

// Makes one message of neighbours; how many there are then.
static int join(const struct mmsghdr *in, int got, struct mmsghdr *out, struct iovec *runs, union control *controls) {
    int count = 0;
    for (int i = 0, run; i < got; i += run, count++) {
        const struct msghdr *first = &in[i].msg_hdr;
        for (run = 0; i + run < got && in[i + run].msg_len == in[i].msg_len &&
                      !memcmp(in[i + run].msg_hdr.msg_name, first->msg_name, 8); run++)
            runs[i + run] = *in[i + run].msg_hdr.msg_iov;
        out[count].msg_hdr = (struct msghdr){.msg_name = first->msg_name, .msg_namelen = first->msg_namelen,
                                             .msg_iov = runs + i, .msg_iovlen = run};
        segment(&out[count].msg_hdr, controls + count, in[i].msg_len, run > 1);
    }
    return count;
}

static void udp(int port, int how) {
    static struct mmsghdr in[BATCH], joined[BATCH];
    static struct iovec run[BATCH], runs[BATCH];
    static struct sockaddr_in from[BATCH];
    static union control controls[BATCH];
    int fd = bound(SOCK_DGRAM, port), size = 4 << 20, ep = epoll_create1(0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (how == RUNS && setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one)) fail("UDP_GRO");
    char *memory = malloc((size_t)BATCH * DATAGRAM);
    for (int i = 0; i < BATCH; i++)
        in[i].msg_hdr = (struct msghdr){.msg_iov = &run[i], .msg_iovlen = 1, .msg_name = &from[i]};
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    for (;;) {
        if (epoll_wait(ep, &e, 1, -1) < 1) continue;
        for (int got = BATCH; got == BATCH;) {
            for (int i = 0; i < BATCH; i++) {
                run[i] = (struct iovec){memory + (size_t)i * DATAGRAM, 65527};
                in[i].msg_hdr.msg_namelen = sizeof *from;
                in[i].msg_hdr.msg_control = how == RUNS ? &controls[i] : 0;
                in[i].msg_hdr.msg_controllen = how == RUNS ? sizeof controls[i] : 0;
            }
            got = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, 0);
            for (int i = 0; i < got; i++) {
                upper(run[i].iov_base, run[i].iov_len = in[i].msg_len);
                int told = 0, has = how == RUNS && in[i].msg_hdr.msg_controllen && controls[i].align.cmsg_type == UDP_GRO;
                if (has) memcpy(&told, CMSG_DATA(&controls[i].align), sizeof told);
                segment(&in[i].msg_hdr, &controls[i], told, told > 0 && (unsigned)told < in[i].msg_len);
            }
            struct mmsghdr *out = how == JOINED ? joined : in;
            int count = how == JOINED && got > 0 ? join(in, got, joined, runs, controls) : got;
            for (int done = 0; done < count;) {
                int n = sendmmsg(fd, out + done, count - done, MSG_DONTWAIT);
                done += n > 0 ? n : 1;
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: bare http|tcp|udp|udp-joined|udp-runs PORT\n");
        return 2;
    }
    int port = atoi(argv[2]);
    if (!strcmp(argv[1], "http")) prepare_answers(), streams(port, http);
    if (!strcmp(argv[1], "tcp")) streams(port, tcp);
    if (!strcmp(argv[1], "udp")) udp(port, PLAIN);
    if (!strcmp(argv[1], "udp-joined")) udp(port, JOINED);
    if (!strcmp(argv[1], "udp-runs")) udp(port, RUNS);
    return 2;
}
