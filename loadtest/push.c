// The client of the upload cases: all files of a list at once, each on a connection of its own, by sendfile. One thread, one
// epoll, loopback only; ends by itself and prints one JSON line.
//
//   push plain PORT < LIST    the plain protocol without a handshake (README, "Uploads"), to the server's end of the connection
//   push ack PORT < LIST      the same with "ack" and "sha256", to the answer that the file is stored
//   push put PORT < LIST      HTTP PUT, to the answer
//
// A line of the list is a file's path, its name for the server, its bytes and its SHA-256 in hexadecimal digits.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, FILES_MAX = 1024, PIECE = 1 << 20, ANSWER = 4096, SILENCE_MS = 60000 };
enum how { PLAIN, ACK, PUT };

struct upload {
    int fd, file, told;      // told: bytes of the answer
    off_t sent, bytes;
    char digest[65], answer[ANSWER + 1];
};

static enum how how;
static uint64_t sent_bytes, errors;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void begin(struct upload *u, int port, const char *name) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[4096];
    uint32_t bytes;
    u->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (u->fd < 0 || connect(u->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    if (how == PUT) {
        bytes = snprintf(head, sizeof head, "PUT /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %ld\r\n"
                         "Connection: close\r\n\r\n", name, (long)u->bytes);
    } else {
        bytes = snprintf(head + 4, sizeof head - 4, "{\"filename\": \"%s\", \"filesize\": %ld", name, (long)u->bytes);
        if (how == ACK)
            bytes += snprintf(head + 4 + bytes, sizeof head - 4 - bytes, ", \"ack\": true, \"sha256\": \"%s\"", u->digest);
        head[4 + bytes++] = '}';
        memcpy(head, &bytes, 4);
        bytes += 4;
    }
    if (send(u->fd, head, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) fail("send");
    fcntl(u->fd, F_SETFL, O_NONBLOCK);
}

// What the server has said by now: 1 it has the file, -1 it has not, 0 nothing yet.
static int verdict(struct upload *u, int ended) {
    if (how == PLAIN) return ended ? 1 : 0;
    if (how == PUT) return u->told >= 12 ? (memcmp(u->answer + 9, "20", 2) ? -1 : 1) : ended ? -1 : 0;
    for (int at = 0; at + 4 <= u->told;) {
        uint32_t bytes;
        memcpy(&bytes, u->answer + at, 4);
        if (bytes > ANSWER) return -1;
        if (at + 4 + (int)bytes > u->told) break;
        char text[ANSWER + 1] = {0};
        memcpy(text, u->answer + at + 4, bytes);
        at += 4 + bytes;
        if (strstr(text, "\"ready\"")) continue;
        return (strstr(text, "\"ok\": true") || strstr(text, "\"ok\":true")) && strstr(text, u->digest) ? 1 : -1;
    }
    return ended ? -1 : 0;
}

// Sends and receives what can be: whether the file is still under way.
static int go_on(struct upload *u) {
    while (u->sent < u->bytes) {
        ssize_t n = sendfile(u->fd, u->file, &u->sent, u->bytes - u->sent < PIECE ? u->bytes - u->sent : PIECE);
        if (n > 0) sent_bytes += n;
        else if (n < 0 && errno == EAGAIN) break;
        else return errors++, 0;
        if (u->sent == u->bytes && how == PLAIN) shutdown(u->fd, SHUT_WR);
    }
    for (;;) {
        ssize_t n = recv(u->fd, u->answer + u->told, ANSWER - u->told, 0);
        if (n < 0 && errno == EAGAIN) return 1;
        if (n > 0) u->told += n;
        int has = verdict(u, n <= 0);
        if (has == 0) continue;
        errors += has < 0 || u->sent < u->bytes || n < 0;
        return 0;
    }
}

int main(int argc, char **argv) {
    static struct upload uploads[FILES_MAX];
    static const char *names[] = {"plain", "ack", "put"};
    while (argc == 3 && how <= PUT && strcmp(argv[1], names[how])) how++;
    if (argc != 3 || how > PUT) {
        fprintf(stderr, "usage: push plain|ack|put PORT < LIST\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int ep = epoll_create1(0), count = 0, open_count = 0;
    char path[2048], name[256];
    double start = now_s();
    for (; count < FILES_MAX; count++) {
        struct upload *u = &uploads[count];
        if (scanf("%2047s %255s %ld %64s", path, name, &u->bytes, u->digest) != 4) break;
        u->file = open(path, O_RDONLY);
        if (u->file < 0) fail(path);
        begin(u, atoi(argv[2]), name);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = u};
        epoll_ctl(ep, EPOLL_CTL_ADD, u->fd, &e);
        open_count++;
    }
    for (struct epoll_event ev[EVENTS]; open_count;) {
        int n = epoll_wait(ep, ev, EVENTS, SILENCE_MS);
        if (n <= 0) {
            errors += open_count;
            break;
        }
        for (int i = 0; i < n; i++) {
            struct upload *u = ev[i].data.ptr;
            if (go_on(u)) continue;
            close(u->fd);
            close(u->file);
            open_count--;
        }
    }
    printf("{\"files\":%d,\"bytes\":%lu,\"seconds\":%.4f,\"errors\":%lu}\n", count, sent_bytes, now_s() - start, errors);
}
