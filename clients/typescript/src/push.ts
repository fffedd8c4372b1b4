import { failure } from "./http.js";
import type { Parley } from "./parley.js";

/** Web push of this device. */
export class Push {
  constructor(private readonly chat: Parley) {}

  /** Subscribes this browser. To be called on a click: it may ask for permission. The page brings its service worker. */
  async enable(worker: ServiceWorkerRegistration): Promise<void> {
    const { webPush } = await this.chat.request<{ webPush: { publicKey: string } | null }>("GET", "/push/config");
    if (!webPush) throw failure("push_not_configured", "the server has no web push", 404);
    const subscription =
      (await worker.pushManager.getSubscription()) ??
      (await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: webPush.publicKey }));
    await this.register({ provider: "webpush", subscription: subscription.toJSON() });
  }

  /** Registers this device for FCM, or for a subscription that was made elsewhere. */
  register(device: { provider: "webpush"; subscription: unknown } | { provider: "fcm"; token: string }): Promise<void> {
    return this.chat.request("PUT", "/push/devices/" + this.chat.deviceId, device);
  }

  async disable(worker?: ServiceWorkerRegistration): Promise<void> {
    await this.chat.request("DELETE", "/push/devices/" + this.chat.deviceId);
    await (await worker?.pushManager.getSubscription())?.unsubscribe();
  }
}
