// The service worker: it shows pushes while the page is closed, and brings the page to the conversation of one that is clicked.
interface Push { conversationId: string; title: string; body?: string; count: number; unread: { messages: number } }
interface Page { url: string; focus(): Promise<unknown>; navigate(url: string): Promise<unknown> }
interface WorkerEvent extends Event { waitUntil(work: Promise<unknown>): void }
interface PushEvent extends WorkerEvent { data: { json(): Push } | null }
interface ClickEvent extends WorkerEvent { notification: Notification }

const worker = self as unknown as {
  registration: ServiceWorkerRegistration;
  navigator: { setAppBadge?(n: number): Promise<void> };
  clients: { matchAll(options: object): Promise<Page[]>; openWindow(url: string): Promise<unknown> };
  addEventListener(type: "push", handler: (e: PushEvent) => void): void;
  addEventListener(type: "notificationclick", handler: (e: ClickEvent) => void): void;
};

worker.addEventListener("push", (e) => {
  const push = e.data?.json();
  if (!push) return;
  const body = push.body ?? (push.count > 1 ? `${push.count} new messages` : "New message");
  e.waitUntil(Promise.all([
    worker.registration.showNotification(push.title, { body, tag: push.conversationId, data: push.conversationId }),
    worker.navigator.setAppBadge?.(push.unread.messages).catch(() => undefined),
  ]));
});

worker.addEventListener("notificationclick", (e) => {
  e.notification.close();
  e.waitUntil(show(`/#/c/${String(e.notification.data)}`));
});

async function show(url: string): Promise<void> {
  const [page] = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  if (!page) {
    await worker.clients.openWindow(url);
    return;
  }
  await page.focus();
  // A page that this worker does not control cannot be led elsewhere.
  await page.navigate(url).catch(() => undefined);
}
