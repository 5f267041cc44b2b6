// The limit of a tunnel, and of a gateway that passes all on: every connection is joined to TARGET. The kernel moves the
// bytes; with `copy` they are received and sent, which is less work for a few, and no more calls than have to be.
//
//   relay PORT TARGET [copy]
//
// No CONNECT, no names, no heads, no limits, no time-outs. Loopback only. Ends when killed.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, PIPE = 1 << 20, COPIED = 128 << 10 };

// What comes from one end, on its way to the other.
struct end {
    int fd, pipe[2];
    size_t held, at;
    char *bytes;            // with `copy`, what is held, from `at` on; else it is in the pipe
    struct end *peer;
};

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// -1 when this end is finished.
static int pump(struct end *from) {
    for (;;) {
        while (from->held) {
            ssize_t n = splice(from->pipe[0], 0, from->peer->fd, 0, from->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            from->held -= n;
        }
        ssize_t n = splice(from->fd, 0, from->pipe[1], 0, PIPE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        from->held = n;
    }
}

// The same by copies. Fewer bytes than there is room for were all.
static int copy(struct end *from) {
    for (;;) {
        while (from->held) {
            ssize_t n = send(from->peer->fd, from->bytes + from->at, from->held, 0);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            from->held -= n, from->at += n;
        }
        ssize_t n = recv(from->fd, from->bytes, COPIED, 0);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        from->held = n, from->at = 0;
        if (n < COPIED) {
            n = send(from->peer->fd, from->bytes, from->held, 0);
            if (n < 0 && errno != EAGAIN) return -1;
            if (n > 0) from->held -= n, from->at += n;
            if (!from->held || n < 0) return 0;
        }
    }
}

static void end(struct end *one) {
    for (struct end *e = one; e; e = e == one ? one->peer : 0) {
        close(e->fd), e->fd = -1;
        if (e->bytes) free(e->bytes), e->bytes = 0;
        else close(e->pipe[0]), close(e->pipe[1]);
    }
}

// Its memory stays: events of this turn may still name it, and nobody opens many.
static void join(int ep, int client, int target, int copies) {
    struct sockaddr_in to = loopback(target);
    int upstream = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(upstream, (struct sockaddr *)&to, sizeof to)) {
        close(client), close(upstream);
        return;
    }
    fcntl(upstream, F_SETFL, O_NONBLOCK);
    struct end *ends = calloc(2, sizeof *ends);
    for (int i = 0; i < 2; i++) {
        ends[i].fd = i ? upstream : client;
        ends[i].peer = &ends[!i];
        if (copies) {
            if (!(ends[i].bytes = malloc(COPIED))) fail("malloc");
            continue;
        }
        if (pipe2(ends[i].pipe, O_NONBLOCK)) fail("pipe2");
        fcntl(ends[i].pipe[1], F_SETPIPE_SZ, PIPE);
    }
    for (int i = 0; i < 2; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &ends[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, ends[i].fd, &e);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: relay PORT TARGET [copy]\n");
        return 2;
    }
    int copies = argc > 3;
    signal(SIGPIPE, SIG_IGN);
    int ep = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in at = loopback(atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    struct epoll_event ev[EVENTS], e = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(ep, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct end *from = ev[i].data.ptr;
            if (!from) {
                for (int fd; (fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0;) join(ep, fd, atoi(argv[2]), copies);
            } else if (copies && from->fd >= 0) {
                // An end has something to send only if it was refused room.
                if ((ev[i].events & ~EPOLLOUT && copy(from) < 0) || (from->peer->held && copy(from->peer) < 0)) end(from);
            } else if (from->fd >= 0 && (pump(from) < 0 || pump(from->peer) < 0)) {
                end(from);
            }
        }
    }
}
