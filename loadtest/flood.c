// The loads of fair.py: one client that pings, and others that flood as fast as they can. Loopback only; each ends by
// itself and prints one JSON line.
//
//   flood ping PORT SECONDS                          TCP echo: one connection, a message after a pause, the round trips;
//                                                    ahead of all others on its processor, where that is permitted
//   flood stream PORT CONNECTIONS SECONDS < BYTES    sends the bytes over and over, whatever comes back, and counts that
//   flood stream PORT CONNECTIONS SECONDS ANSWER < BYTES    the same, but after the bytes it waits for so many of an answer
//   flood connect PORT CONNECTIONS SECONDS < BYTES   connects, sends the bytes, reads to the end, again; counts the ends.
//                                                    Without bytes it resets the connection as soon as it is made
//   flood datagram PORT SOCKETS SECONDS < BYTES      sends the bytes as one datagram, over and over, and takes what comes
//   flood overload PORT SOCKETS SECONDS RUN < BYTES  the same, but reads nothing, which is faster; RUN of them leave as one
//                                                    message where that is more than 1 (UDP_SEGMENT). Counts the datagrams
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, PIECE = 1 << 20, ROUNDS = 16, PINGS_MAX = 1 << 20, BATCH = 32 };

static char *message, piece[PIECE];
static size_t message_bytes, answer_bytes;    // answer_bytes: 0 where nobody waits

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void read_message(void) {
    size_t room = 1 << 16;
    message = malloc(room);
    for (ssize_t n; (n = read(0, message + message_bytes, room - message_bytes)) > 0;)
        if ((message_bytes += n) == room) message = realloc(message, room *= 2);
}

static int begun(int type, int port, int flags) {
    int fd = socket(AF_INET, type | flags, 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0) fail("socket");
    if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
    return fd;
}

static int compare(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return (x > y) - (x < y);
}

static void ping(int port, double seconds) {
    static double trips[PINGS_MAX];
    struct sched_param ahead = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &ahead)) fprintf(stderr, "ping: not ahead of the others: %s\n", strerror(errno));
    int fd = begun(SOCK_STREAM, port, 0), n = 0;
    unsigned pause = 1;
    for (double stop = now_s() + seconds, began; (began = now_s()) < stop && n < PINGS_MAX;) {
        if (send(fd, "ping", 4, MSG_NOSIGNAL) != 4 || recv(fd, piece, 4, MSG_WAITALL) != 4) fail("ping");
        trips[n++] = now_s() - began;
        pause = pause * 1103515245 + 12345;
        struct timespec rest = {.tv_nsec = 200000 + pause % 800000};
        nanosleep(&rest, 0);
    }
    qsort(trips, n, sizeof *trips, compare);
    printf("{\"pings\":%d,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n", n, trips[n / 2] * 1e6, trips[n * 99 / 100] * 1e6,
           trips[n - 1] * 1e6);
}

struct stream {
    int fd;
    size_t sent, awaited;    // of the message; of the answer, still to come
};

// Sends and receives some. Whether there may be more.
static int push(struct stream *s, uint64_t *received) {
    int more = 0;
    for (int i = 0; i < ROUNDS; i++) {
        ssize_t in = recv(s->fd, piece, PIECE, 0), out = 0;
        if (in == 0 || (in < 0 && errno != EAGAIN)) fail("the flood's stream ended");
        if (in > 0) *received += in;
        if (in > 0 && answer_bytes) s->awaited -= (size_t)in < s->awaited ? (size_t)in : s->awaited;
        if (s->awaited == 0) out = send(s->fd, message + s->sent, message_bytes - s->sent, MSG_NOSIGNAL);
        if (out < 0 && errno != EAGAIN) fail("send");
        if (out > 0 && (s->sent = (s->sent + out) % message_bytes) == 0) s->awaited = answer_bytes;
        more = in > 0 || out > 0;
        if (!more) break;
    }
    return more;
}

static void stream(int port, int count, double seconds) {
    int ep = epoll_create1(0), more = 1;
    uint64_t received = 0;
    struct stream *streams = calloc(count, sizeof *streams);
    for (int i = 0; i < count; i++) {
        streams[i].fd = begun(SOCK_STREAM, port, 0);
        fcntl(streams[i].fd, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = i};
        epoll_ctl(ep, EPOLL_CTL_ADD, streams[i].fd, &e);
    }
    double start = now_s(), end = start;
    for (struct epoll_event ev[EVENTS]; (end = now_s()) < start + seconds;) {
        if (!more) epoll_wait(ep, ev, EVENTS, 50);
        more = 0;
        for (int i = 0; i < count; i++) more |= push(&streams[i], &received);
    }
    printf("{\"received\":%lu,\"seconds\":%.4f}\n", received, end - start);
}

// A connection is made again whenever it has ended.
static void connects(int port, int count, double seconds) {
    int ep = epoll_create1(0);
    uint64_t ends = 0;
    struct linger reset = {.l_onoff = 1};
    double start = now_s(), end = start;
    if (message_bytes == 0) {
        for (; (end = now_s()) < start + seconds; ends++) {
            int fd = begun(SOCK_STREAM, port, 0);
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(fd);
        }
    } else {
        for (int i = 0; i < count; i++) {
            struct epoll_event e = {.events = EPOLLOUT, .data.fd = begun(SOCK_STREAM, port, SOCK_NONBLOCK)};
            epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e);
        }
        for (struct epoll_event ev[EVENTS]; (end = now_s()) < start + seconds;) {
            int n = epoll_wait(ep, ev, EVENTS, 50);
            for (int i = 0; i < n; i++) {
                int fd = ev[i].data.fd;
                if (ev[i].events & EPOLLOUT) {
                    if (send(fd, message, message_bytes, MSG_NOSIGNAL) < 0) fail("send");
                    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
                    epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
                    continue;
                }
                if (recv(fd, piece, PIECE, 0) > 0) continue;
                close(fd);
                ends++;
                struct epoll_event e = {.events = EPOLLOUT, .data.fd = begun(SOCK_STREAM, port, SOCK_NONBLOCK)};
                epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e);
            }
        }
    }
    printf("{\"received\":%lu,\"seconds\":%.4f}\n", ends, end - start);
}

// `run_length` is 0 where answers are read.
static void datagram(int port, int count, double seconds, int run_length) {
    int *fds = calloc(count, sizeof *fds);
    struct mmsghdr all[BATCH] = {0};
    int joined = run_length > 1 ? run_length : 1, segment = message_bytes;
    char *runs = malloc(joined * message_bytes);
    for (int i = 0; i < joined; i++) memcpy(runs + i * message_bytes, message, message_bytes);
    struct iovec run = {.iov_base = runs, .iov_len = joined * message_bytes};
    for (int i = 0; i < BATCH; i++) all[i].msg_hdr = (struct msghdr){.msg_iov = &run, .msg_iovlen = 1};
    for (int i = 0; i < count; i++) {
        fds[i] = begun(SOCK_DGRAM, port, 0);
        if (joined > 1 && setsockopt(fds[i], SOL_UDP, UDP_SEGMENT, &segment, sizeof segment)) fail("UDP_SEGMENT");
    }
    uint64_t sent = 0;
    double start = now_s(), end = start;
    for (; (end = now_s()) < start + seconds;)
        for (int i = 0; i < count; i++) {
            int n = sendmmsg(fds[i], all, BATCH, 0);
            if (n > 0) sent += n * joined;
            while (run_length == 0 && recv(fds[i], piece, PIECE, MSG_DONTWAIT) > 0) {}
        }
    printf("{\"sent\":%lu,\"received\":0,\"seconds\":%.4f}\n", sent, end - start);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (argc == 4 && !strcmp(what, "ping")) {
        ping(atoi(argv[2]), atof(argv[3]));
        return 0;
    }
    const char *more = argc == 6 ? argv[5] : "0";
    if (argc != 5 && !(argc == 6 && (!strcmp(what, "stream") || !strcmp(what, "overload")))) {
        fprintf(stderr, "usage: flood ping PORT SECONDS\n       flood stream PORT COUNT SECONDS [ANSWER] < BYTES\n"
                        "       flood connect|datagram PORT COUNT SECONDS < BYTES\n"
                        "       flood overload PORT COUNT SECONDS RUN < BYTES\n");
        return 2;
    }
    read_message();
    if (!strcmp(what, "stream")) answer_bytes = strtoul(more, 0, 10), stream(atoi(argv[2]), atoi(argv[3]), atof(argv[4]));
    else if (!strcmp(what, "connect")) connects(atoi(argv[2]), atoi(argv[3]), atof(argv[4]));
    else datagram(atoi(argv[2]), atoi(argv[3]), atof(argv[4]), atoi(more));
    return 0;
}
