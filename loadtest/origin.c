// What stands behind the proxies: the least that epoll can do as an origin, so that it takes little from the load.
//
//   origin PORT SOURCE
//
// At PORT, GET /kept/SIZE is answered with SIZE bytes (1024, 65536) that may be reused for an hour, GET /passed/SIZE with
// as many that may not be stored; whatever follows the size is ignored, so each query is a resource of its own. At SOURCE,
// every connection is sent bytes without end, for tunnels. Loopback only. Ends when killed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD = 16 << 10, PIECE = 1 << 20, BODY_MAX = 64 << 10 };
enum kind { LISTENER, SOURCE_LISTENER, CLIENT, SINK };

struct conn {
    enum kind kind;
    int fd, in_len;
    struct answer *answer;    // that is being sent
    size_t sent;
    char in[HEAD + 1];
};

struct answer {
    const char *path;
    size_t size, len;
    char bytes[512 + BODY_MAX];
};

static struct answer answers[] = {{"/kept/1024", 1024}, {"/kept/65536", 65536}, {"/passed/1024", 1024}, {"/passed/65536", 65536}};
static const int answer_count = sizeof answers / sizeof *answers;
static int endless;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void prepare(void) {
    char date[64];
    time_t now = time(0);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    for (struct answer *a = answers; a < answers + answer_count; a++) {
        const char *control = strstr(a->path, "kept") ? "max-age=3600" : "no-store";
        a->len = sprintf(a->bytes, "HTTP/1.1 200 OK\r\nDate: %s\r\nCache-Control: %s\r\nETag: \"%zu\"\r\n"
                         "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n", date, control, a->size, a->size);
        memset(a->bytes + a->len, 'x', a->size);
        a->len += a->size;
    }
    endless = memfd_create("endless", 0);
    if (endless < 0 || ftruncate(endless, PIECE)) fail("memfd");
}

static struct conn *listening(int port, enum kind kind) {
    struct conn *c = calloc(1, sizeof *c);
    int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *c = (struct conn){.kind = kind, .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
    setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&at, sizeof at) || listen(c->fd, 4096)) fail("listen");
    return c;
}

// Takes the first complete request out of the buffer; -1 if it asks for what is not there.
static int take_request(struct conn *c) {
    char *blank = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!blank) return c->in_len == HEAD ? -1 : 0;
    for (struct answer *a = answers; !c->answer && a < answers + answer_count; a++) {
        size_t len = strlen(a->path);
        char *end = c->in + 4 + len;
        if (!strncmp(c->in, "GET ", 4) && end < blank && !memcmp(c->in + 4, a->path, len) && (*end == ' ' || *end == '?'))
            c->answer = a, c->sent = 0;
    }
    char *rest = blank + 4;
    memmove(c->in, rest, c->in_len -= rest - c->in);
    return c->answer ? 0 : -1;
}

// -1 when the connection is over.
static int serve(struct conn *c) {
    for (;;) {
        if (!c->answer && take_request(c) < 0) return -1;
        if (c->answer) {
            ssize_t n = send(c->fd, c->answer->bytes + c->sent, c->answer->len - c->sent, MSG_NOSIGNAL);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            if ((c->sent += n) == c->answer->len) c->answer = 0;
            continue;
        }
        ssize_t n = recv(c->fd, c->in + c->in_len, HEAD - c->in_len, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        c->in_len += n;
    }
}

static int pour(struct conn *c) {
    for (ssize_t n = 1; n > 0;) {
        off_t at = 0;
        n = sendfile(c->fd, endless, &at, PIECE);
    }
    return errno == EAGAIN ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: origin PORT SOURCE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prepare();
    int ep = epoll_create1(0);
    struct conn *listeners[2] = {listening(atoi(argv[1]), LISTENER), listening(atoi(argv[2]), SOURCE_LISTENER)};
    struct epoll_event ev[EVENTS], e = {.events = EPOLLIN};
    for (int i = 0; i < 2; i++) e.data.ptr = listeners[i], epoll_ctl(ep, EPOLL_CTL_ADD, listeners[i]->fd, &e);
    for (;;) {
        int n = epoll_wait(ep, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (c->kind == CLIENT || c->kind == SINK) {
                if ((ev[i].events & (EPOLLHUP | EPOLLERR)) || (c->kind == CLIENT ? serve(c) : pour(c)) < 0) close(c->fd), free(c);
                continue;
            }
            for (int fd; (fd = accept4(c->fd, 0, 0, SOCK_NONBLOCK)) >= 0;) {
                struct conn *new = calloc(1, sizeof *new);
                new->kind = c->kind == LISTENER ? CLIENT : SINK, new->fd = fd;
                // Edges for both: a sink is written to until it is full, and told of when there is room again.
                e = (struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = new};
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
            }
        }
    }
}
