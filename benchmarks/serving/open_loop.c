/* Open-loop HTTP/1.1 load: one thread, epoll, keep-alive connections, Poisson arrivals.
 *
 * Latency runs from the moment at which a request was to be sent, whatever became of it, so a server that stalls is
 * charged for all that it delayed. Waiting is busy, so that the generator's own delay is microseconds: it is
 * recorded (lag) for the requests that had a connection waiting for them. A request without one waits in the
 * schedule and is counted (waited): that delay is the server's.
 *
 * usage: open_loop PORT PATH BODYFILE CONNECTIONS RATE SECONDS SEED    prints one line of JSON, times in microseconds
 * answered: with status 200 until GRACE after the end. dropped: never sent or never answered. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define GRACE_NS 100000000LL   /* answers until then are in time for the rate */
#define PATIENCE_NS 2000000000LL /* answers until then are waited for */
#define BUFFER (1 << 17)

typedef long long ns;

typedef struct {
  int fd, received, needed;
  ns due;
  char buffer[BUFFER];
} Connection;

static ns now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  ns x = *(const ns *)a, y = *(const ns *)b;
  return (x > y) - (x < y);
}

static double quantile_us(const ns *sorted, int count, double q) {
  if (!count) return 0;
  int index = (int)(q * count);
  return sorted[index < count ? index : count - 1] / 1e3;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static Connection *connect_one(int port, int poll) {
  Connection *c = calloc(1, sizeof *c);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
  return c;
}

static void send_all(Connection *c, const char *request, int size, ns due) {
  c->due = due;
  c->received = 0;
  c->needed = -1;
  for (int sent = 0; sent < size;) {
    int n = send(c->fd, request + sent, size - sent, MSG_NOSIGNAL);
    if (n >= 0) sent += n;
    else if (errno != EAGAIN) die("send");
  }
}

/* 1 when the answer is complete. */
static int receive(Connection *c) {
  int n = recv(c->fd, c->buffer + c->received, BUFFER - 1 - c->received, 0);
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) {
    fprintf(stderr, "the server closed a connection\n");
    exit(2);
  }
  c->received += n;
  c->buffer[c->received] = 0;
  if (c->needed < 0) {
    char *end = memmem(c->buffer, c->received, "\r\n\r\n", 4);
    if (!end) return 0;
    char *length = strcasestr(c->buffer, "\r\ncontent-length:");
    if (!length || length > end) {
      fprintf(stderr, "an answer without content-length\n");
      exit(3);
    }
    c->needed = (int)(end - c->buffer) + 4 + atoi(length + 17);
  }
  return c->received >= c->needed;
}

int main(int count, char **args) {
  if (count != 8) return 64;
  int port = atoi(args[1]), connections = atoi(args[4]);
  double rate = atof(args[5]), seconds = atof(args[6]);
  srand48(atol(args[7]));
  static char body[1 << 20];
  FILE *file = fopen(args[3], "rb");
  if (!file) die(args[3]);
  int body_size = (int)fread(body, 1, sizeof body, file);
  char *request = malloc(body_size + 1024);
  int size = sprintf(request,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\n\r\n", args[2], port, body_size);
  memcpy(request + size, body, body_size);
  size += body_size;

  int total = (int)(rate * seconds);
  ns *arrivals = malloc(sizeof(ns) * (total + 1)), *latency = malloc(sizeof(ns) * (total + 1));
  ns *lag = malloc(sizeof(ns) * (total + 1));
  double at = 0;
  for (int i = 0; i < total; i++) {
    at += -log(1 - drand48()) / rate;
    arrivals[i] = (ns)(at * 1e9);
  }
  /* The one that has been idle longest comes next: none is idle for so long that its server closes it. */
  int poll = epoll_create1(0), first_idle = 0, free_count = 0;
  Connection **idle = malloc(sizeof *idle * connections);
  for (int i = 0; i < connections; i++) idle[free_count++] = connect_one(port, poll);

  struct epoll_event events[256];
  int sent = 0, done = 0, in_time = 0, refused = 0, lags = 0, waited = 0, was_full = 0;
  ns start = now() + 1000000, window = (ns)(at * 1e9);
  while (done < total && now() < start + window + PATIENCE_NS) {
    while (sent < total && free_count && now() >= start + arrivals[sent]) {
      ns due = start + arrivals[sent];
      send_all(idle[first_idle], request, size, due);
      first_idle = (first_idle + 1) % connections;
      free_count--;
      if (was_full) waited++;
      else lag[lags++] = now() - due;
      sent++;
      was_full = was_full && sent < total && now() >= start + arrivals[sent];
      if (!free_count) was_full = 1;
    }
    if (free_count && (sent == total || now() < start + arrivals[sent])) was_full = 0;
    int ready = epoll_wait(poll, events, 256, 0);
    for (int i = 0; i < ready; i++) {
      Connection *c = events[i].data.ptr;
      if (!receive(c)) continue;
      ns then = now();
      latency[done++] = then - c->due;
      int ok = !memcmp(c->buffer + 9, "200", 3);
      refused += !ok;
      in_time += ok && then <= start + window + GRACE_NS;
      idle[(first_idle + free_count++) % connections] = c;
    }
  }
  qsort(latency, done, sizeof(ns), ascending);
  qsort(lag, lags, sizeof(ns), ascending);
  printf("{\"total\":%d,\"answered\":%d,\"refused\":%d,\"dropped\":%d,\"waited\":%d,\"window_seconds\":%.4f,"
         "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"lag_p50_us\":%.1f,\"lag_p99_us\":%.1f}\n",
         total, in_time, refused, total - done, waited, window / 1e9, quantile_us(latency, done, .5),
         quantile_us(latency, done, .9), quantile_us(latency, done, .99), quantile_us(latency, done, 1),
         quantile_us(lag, lags, .5), quantile_us(lag, lags, .99));
  return 0;
}
