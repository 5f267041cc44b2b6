// The client of million.py: asks a cache for objects that have numbers. One thread, loopback only; ends by itself and prints
// one JSON line.
//
//   objects PORT CONNECTIONS COUNT                    each object from 0 to COUNT - 1 once, in order
//   objects PORT CONNECTIONS COUNT SECONDS PAUSE_US   objects by chance, so long; each connection pauses after an answer
//
// Object N is /kept/1024?N of origin.c. An answer counts as a hit if Cache-Status says so, and as an error if it is not 200
// with 1024 bytes. A connection that the server ends is made again.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, BODY = 1024, ROOM = 8192, SILENCE_MS = 30000, TRIPS_MAX = 1 << 21 };

struct client {
    int fd;
    size_t got;
    uint64_t began, due;    // due: when it asks again, 0 while it waits for an answer
    char answer[ROOM + 1];
};

static uint64_t answers, hits, errors, next, count, chance = 88172645463325252u;
static double trips[TRIPS_MAX];
static int port;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void join(struct client *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static uint64_t by_chance(void) {
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return chance % count;
}

static void ask(struct client *c, uint64_t number) {
    char request[128];
    int len = snprintf(request, sizeof request, "GET /kept/1024?%lu HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", number);
    c->got = c->due = 0, c->began = now_ns();
    if (send(c->fd, request, len, MSG_NOSIGNAL) != len) fail("send");
}

// Whether the answer is whole by now.
static int take(struct client *c) {
    ssize_t n = recv(c->fd, c->answer + c->got, ROOM - c->got, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) {
        errors++;
        close(c->fd);
        join(c);
        return 1;
    }
    c->answer[c->got += n] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return 0;
    char *length = strcasestr(c->answer, "\r\nContent-Length:"), *status = strcasestr(c->answer, "\r\nCache-Status:");
    size_t bytes = length && length < end ? strtoul(length + 17, 0, 10) : 0;
    if (c->got < (size_t)(end + 4 - c->answer) + bytes) return 0;
    errors += strncmp(c->answer, "HTTP/1.1 200 ", 13) != 0 || bytes != BODY;
    if (status && status < end) {
        char *line_end = strstr(status + 2, "\r\n");
        *line_end = 0;
        hits += strstr(status, "; hit") != 0;
    }
    return 1;
}

static int compare(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static struct client clients[CONNECTIONS_MAX];
    static struct pollfd p[CONNECTIONS_MAX];
    int connections = argc > 2 ? atoi(argv[2]) : 0, in_order = argc == 4, under_way = 0;
    if ((argc != 4 && argc != 6) || connections < 1 || connections > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: objects PORT CONNECTIONS COUNT [SECONDS PAUSE_US]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]), count = strtoull(argv[3], 0, 10);
    uint64_t start = now_ns(), stop = in_order ? UINT64_MAX : start + atof(argv[4]) * 1e9, now = start;
    uint64_t pause = in_order ? 0 : strtoull(argv[5], 0, 10) * 1000;
    for (int i = 0; i < connections; i++) {
        join(&clients[i]);
        p[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        clients[i].due = start + i * (pause / connections + 1);
    }
    for (;;) {
        under_way = 0;
        uint64_t soonest = UINT64_MAX;
        for (int i = 0; i < connections; i++) {
            struct client *c = &clients[i];
            if (c->due && c->due <= now && now < stop && (!in_order || next < count)) ask(c, in_order ? next++ : by_chance());
            under_way += c->due == 0;
            if (c->due && c->due < soonest) soonest = c->due;
        }
        int over = now >= stop || (in_order && next >= count);
        if (over && !under_way) break;
        int wait = over || soonest == UINT64_MAX ? SILENCE_MS : soonest <= now ? 0 : (soonest - now) / 1000000 + 1;
        int ready = poll(p, connections, wait);
        if (ready == 0 && wait == SILENCE_MS) errno = ETIMEDOUT, fail("an answer");
        now = now_ns();
        for (int i = 0; i < connections; i++) {
            struct client *c = &clients[i];
            if (!p[i].revents || !take(c)) continue;
            p[i].fd = c->fd, c->due = now + pause;
            trips[answers++ % TRIPS_MAX] = (now - c->began) / 1e3;
        }
    }
    uint64_t n = answers < TRIPS_MAX ? answers : TRIPS_MAX;
    qsort(trips, n, sizeof *trips, compare);
    printf("{\"answers\":%lu,\"hits\":%lu,\"errors\":%lu,\"seconds\":%.4f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n", answers,
           hits, errors, (now - start) / 1e9, n ? trips[n / 2] : 0, n ? trips[n * 99 / 100] : 0, n ? trips[n - 1] : 0);
}
